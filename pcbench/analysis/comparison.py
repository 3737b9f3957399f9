"""Which of several models resists better, at which timestep, against which perturbation, and how sure is that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from pcbench.analysis.alexnet import BENCHMARK
from pcbench.analysis.alexnet import ERRORS as ALEXNET
from pcbench.analysis.answers import Answers
from pcbench.analysis.statistics import (
    Difference,
    bootstrap,
    bootstrap_p,
    holm,
    interval,
    mcnemar,
    paired_interval,
    sign_flip,
)
from pcbench.errors import UserError, did_you_mean
from pcbench.intervals import wilson

OVERALL = "all"
Replicates = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Side:
    """One model of one run in one suite, as a comparison sees it.

    Attributes:
        label: how it is called in tables, unique in a comparison.
        answers: what it answered.
        replicates: (R, perturbations, T + 1) bootstrap accuracies, each perturbation's the mean over severities.
        left_out: conditions that others of the comparison lack.
    """

    label: str
    answers: Answers
    replicates: Replicates
    left_out: Sequence[str] = ()

    @property
    def last(self) -> int:
        """T."""
        return self.answers.timesteps[-1]


@dataclass(frozen=True)
class Question:
    """One system against another, or against itself at t = 0. All tests of a question and a level are one family.

    Attributes:
        suite: name.
        system: label of what is asked about.
        against: label of what it is compared with.
        table: a row for each level, perturbation, severity and timestep; columns: see `ask`.
        corruption_errors: a row for each measure and timestep; empty where it has none: see `ratios`.
        notes: what a reader must know.
    """

    suite: str
    system: str
    against: str
    table: pd.DataFrame
    corruption_errors: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def repeats(self, other: "Question | None") -> bool:
        """Whether all numbers are those of another question: a network's t = 0 may be its baseline, image by image."""
        if other is None or (self.suite, self.system) != (other.suite, other.system):
            return False
        columns = [name for name in self.table if name != "against"]
        return self.table[columns].equals(other.table[columns])

    def difference(self, timestep: int, perturbation: str = OVERALL) -> Difference:
        """The corrected difference at one timestep, of one perturbation or of their mean."""
        rows = self.table[(self.table["perturbation"] == perturbation) & (self.table["timestep"] == timestep)]
        rows = rows[rows["level"] != "condition"]
        if rows.empty:
            raise UserError(f"{self.system} has no {perturbation} at t = {timestep} in suite {self.suite}")
        row = rows.iloc[0]
        return Difference(row["difference"], row["diff_low"], row["diff_high"], row["p_corrected"])


def systems(found: Sequence[Answers], loosely: bool = False) -> list[Side]:
    """Give each system of a suite its bootstrap replicates, all from the same resamples of the images they share.

    Conditions that not all of them have (a run was interrupted, a file is damaged) are left out.

    Args:
        found: of one suite, comparable, each with a label of its own.
        loosely: take conditions of one name and strength for the same, however they were made.

    Raises:
        UserError: the systems have no images or no conditions in common.
    """
    if not found:
        return []
    names = ", ".join(each.label for each in found)
    aligned = _on_shared_images(found)
    if aligned is None:
        raise UserError(f"{names} have no images in common in {found[0].suite}")
    keys = [[(key.perturbation, key.severity) if loosely else key for key in each.keys] for each in aligned]
    everywhere = set(keys[0]).intersection(*keys[1:])
    order = [key for key in dict.fromkeys(keys[0]) if key in everywhere]
    if not order:
        raise UserError(f"{names} have no conditions in common in {found[0].suite}")
    result = []
    for each, own in zip(aligned, keys, strict=True):
        kept = each.rows([own.index(key) for key in order])
        left_out = [key.label for key, place in zip(each.keys, own, strict=True) if place not in everywhere]
        correct = [kept.of(name) for name in kept.perturbations()]
        # Sums, because small integers stay exact in the bootstrap: equal answers then differ by 0, not by rounding.
        table = np.stack([part.sum(axis=0) for part in correct], axis=1)
        means = bootstrap(table.reshape(len(table), -1)).reshape(-1, *table.shape[1:])
        severities = np.array([len(part) for part in correct], dtype=np.float32)[:, None]
        result.append(Side(each.label, kept, means / severities, left_out))
    return result


def _on_shared_images(found: Sequence[Answers]) -> list[Answers] | None:
    """The same, image by image; None when there is no image that all have."""
    first = found[0]
    if all(each.system.data == first.system.data for each in found):
        return list(found)
    if any(len(each.images) == 0 for each in found):
        raise UserError("records that were published as answers alone cannot be matched with those of other images")
    shared = set(first.images).intersection(*(each.images for each in found[1:]))
    images = np.array(sorted(shared), dtype=object)
    return [each.on(images) for each in found] if shared else None


def own_start(system: Side) -> Side:
    """The system's own feedforward pass, as something to compare with."""
    first = system.answers.at(system.answers.timesteps[0])
    return Side(f"{system.label} at t = {first.timesteps[0]}", first, system.replicates[:, :, :1])


def ask(system: Side, against: Side) -> Question:
    """Compare at every timestep; a network without dynamics has the same answer at each.

    Returns:
        The question; its table has a row for each level ("overall", "perturbation", "condition"), perturbation,
        severity and timestep: accuracy and its interval, reference (accuracy), difference, diff_low, diff_high
        (percent, points), gained and lost (for a condition: images that only the system, only the other classifies
        correctly), n, test, p, p_corrected (Holm, over the level), significant, best (highest accuracy over t).
        Tests: McNemar's exact test for a condition; for several conditions together, the exact randomisation test of
        the images' summed differences. Intervals: Wilson's for a condition's accuracy, else bootstrap over images.
    """
    ours, theirs = system.answers, against.answers
    steps = _steps(ours, theirs)
    mine, other = (
        [0 if len(found.timesteps) == 1 else found.timesteps.index(t) for t in steps] for found in (ours, theirs)
    )
    names = ours.perturbations()
    severities = np.array([len(ours.of(name)) for name in names])
    scale = int(np.lcm.reduce(severities))

    replicates = system.replicates[:, :, mine]
    reference = against.replicates[:, :, other]
    parts = [_conditions(ours, theirs, steps, mine, other)]
    averaged = ours.averaged()
    summed = np.zeros((ours.values.shape[1], len(steps)))
    for index, name in enumerate(names):
        first, second = ours.of(name)[:, :, mine], theirs.of(name)[:, :, other]
        flips = (first.astype(np.int16) - second.astype(np.int16)).sum(axis=0)
        summed += flips * (scale // len(first)) if name in averaged else 0
        part = _summary(first, second, replicates[:, index], reference[:, index], sign_flip(flips))
        parts.append(part.assign(level="perturbation", perturbation=name, group=ours.group(name), timestep=steps))
    total = [
        np.stack([found.per_image(name)[:, at] for name in averaged]) for found, at in ((ours, mine), (theirs, other))
    ]
    places = [names.index(name) for name in averaged]
    overall = _summary(
        total[0], total[1], replicates[:, places].mean(axis=1), reference[:, places].mean(axis=1), sign_flip(summed)
    )
    parts.append(overall.assign(level="overall", perturbation=OVERALL, group=OVERALL, timestep=steps))
    table = pd.concat(parts, ignore_index=True)
    nothing = _same_start(system, against) and len(ours.timesteps) > 1  # is asked at t = 0
    untested = nothing & (table["timestep"] == ours.timesteps[0]).to_numpy()
    table = _correct(table, tested=~untested)
    return Question(
        ours.suite,
        system.label,
        against.label,
        table.assign(suite=ours.suite, system=system.label, against=against.label, n=ours.values.shape[1]),
        ratios(system, against, steps, mine, other, untested_start=nothing),
        _notes(system, against),
    )


def _steps(ours: Answers, theirs: Answers) -> list[int]:
    """The timesteps at which two systems can be compared."""
    if len(theirs.timesteps) == 1:
        return ours.timesteps
    return [t for t in theirs.timesteps if len(ours.timesteps) == 1 or t in ours.timesteps]


def _conditions(ours: Answers, theirs: Answers, steps: list[int], mine: list[int], other: list[int]) -> pd.DataFrame:
    """The level of single conditions: McNemar's test on the answers, Wilson's interval of the accuracy."""
    first, second = ours.values[:, :, mine].astype(bool), theirs.values[:, :, other].astype(bool)
    gained, lost = (first & ~second).sum(axis=1), (~first & second).sum(axis=1)
    n = first.shape[1]
    low, high = wilson(first.sum(axis=1), n)
    diff_low, diff_high = paired_interval(gained, lost, n)
    table = ours.conditions.loc[np.repeat(ours.conditions.index, len(steps))].reset_index(drop=True)
    columns = {
        "accuracy": first.mean(axis=1),
        "ci_low": low,
        "ci_high": high,
        "reference": second.mean(axis=1),
        "difference": (gained - lost) / n,
        "diff_low": diff_low,
        "diff_high": diff_high,
    }
    return table.assign(
        level="condition",
        timestep=np.tile(steps, len(ours.conditions)),
        **{name: 100 * values.ravel() for name, values in columns.items()},
        gained=gained.ravel(),
        lost=lost.ravel(),
        test="McNemar",
        p=mcnemar(gained, lost).ravel(),
    )


def _summary(
    first: npt.NDArray[np.generic],
    second: npt.NDArray[np.generic],
    replicates: Replicates,
    reference: Replicates,
    p: npt.NDArray[np.float64],
) -> pd.DataFrame:
    """A row for each timestep: means over the first two axes of (conditions, images, timesteps), with intervals."""
    ours, theirs = first.mean(axis=(0, 1), dtype=float), second.mean(axis=(0, 1), dtype=float)
    low, high = interval(replicates)
    diff_low, diff_high = interval(replicates - reference)
    columns = {
        "accuracy": ours,
        "ci_low": low,
        "ci_high": high,
        "reference": theirs,
        "difference": ours - theirs,
        "diff_low": diff_low,
        "diff_high": diff_high,
    }
    table = pd.DataFrame({name: 100 * np.asarray(values) for name, values in columns.items()})
    return table.assign(severity=np.nan, test="randomisation, by image", p=p)


def _correct(table: pd.DataFrame, tested: npt.NDArray[np.bool_]) -> pd.DataFrame:
    table = table.assign(p_corrected=np.nan)
    for level in ("overall", "perturbation", "condition"):
        rows = (table["level"] == level).to_numpy() & tested
        table.loc[rows, "p_corrected"] = holm(table.loc[rows, "p"])
    table.loc[~tested, "p"] = np.nan
    table["significant"] = table["p_corrected"] < 0.05
    best = table.groupby(["level", "perturbation", "severity"], dropna=False)["accuracy"].transform("max")
    return table.assign(best=table["accuracy"] == best)


def ratios(
    system: Side,
    against: Side,
    steps: Sequence[int],
    mine: Sequence[int],
    other: Sequence[int],
    untested_start: bool = False,
) -> pd.DataFrame:
    """Corruption errors at each timestep, with bootstrap intervals over images, where the suite has severities 1-5.

    Returns:
        Rows: measure, timestep, value, low, high, p, p_corrected. Measures: "mCE" (percent of AlexNet's, mean of 15
        CEs; only of ImageNet-C), "mCE difference" (from `against`), "ratio of means" and "mean of ratios" (errors in
        percent of `against`'s). p: of no difference (100 % for the ratios), corrected by Holm over the timesteps at
        which something is asked (`untested_start`: nothing is at the first).
    """
    every = system.answers.perturbations()
    names = system.answers.averaged()
    if why_no_errors(system.answers):
        return pd.DataFrame()
    places = [every.index(name) for name in names]
    exact = [
        1 - np.stack([s.answers.per_image(n)[:, at].mean(axis=0) for n in names])
        for s, at in ((system, list(mine)), (against, list(other)))
    ]
    error = 1 - system.replicates[:, places][:, :, mine]
    base = 1 - against.replicates[:, places][:, :, other]
    rows = []

    def add(
        measure: str, value: npt.NDArray[np.float64], replicates: npt.NDArray[np.floating], null: float | None
    ) -> None:
        low, high = interval(replicates)
        part = pd.DataFrame({"measure": measure, "timestep": steps, "value": value, "low": low, "high": high})
        part["p"] = np.nan if null is None else bootstrap_p(replicates, null)
        part["p_corrected"] = np.nan
        if null is not None:
            if untested_start:
                part.loc[part["timestep"] == steps[0], "p"] = np.nan
            asked = part["p"].notna()
            part.loc[asked, "p_corrected"] = holm(part.loc[asked, "p"])
        rows.append(part)

    if not why_no_mce(system.answers):
        at = [names.index(name) for name in BENCHMARK]
        weight = 100 / np.array([np.mean(ALEXNET[name]) for name in BENCHMARK])[:, None]
        ours, theirs = (weight * exact[0][at]).mean(axis=0), (weight * exact[1][at]).mean(axis=0)
        ours_r, theirs_r = (weight * error[:, at]).mean(axis=1), (weight * base[:, at]).mean(axis=1)
        add("mCE", ours, ours_r, None)
        add("mCE difference", ours - theirs, ours_r - theirs_r, 0.0)
    if (exact[1] > 0).all() and (base > 0).all():
        add(
            "ratio of means",
            100 * exact[0].mean(axis=0) / exact[1].mean(axis=0),
            100 * error.mean(axis=1) / base.mean(axis=1),
            100.0,
        )
        add("mean of ratios", 100 * (exact[0] / exact[1]).mean(axis=0), 100 * (error / base).mean(axis=1), 100.0)
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def why_no_errors(found: Answers) -> str | None:
    """Why a suite has no corruption errors; None when it has."""
    for name in found.averaged():
        severities = sorted(found.conditions.loc[found.conditions["perturbation"] == name, "severity"])
        if severities != [1.0, 2.0, 3.0, 4.0, 5.0]:
            shown = ", ".join(f"{s:g}" for s in severities)
            return f"no corruption errors: {name} has severities {shown}; they take each of 1-5"
    return None


def why_no_mce(found: Answers) -> str | None:
    """Why a suite has no mCE against AlexNet; None when it has."""
    missing = [name for name in BENCHMARK if name not in found.perturbations()]
    if missing:
        return f"no mCE: missing {', '.join(missing)}"
    if found.classes != 1000 or any(key.params.get("variant") == "cifar-c" for key in found.keys):
        return f"no mCE against AlexNet: its errors are of ImageNet-C, not of {found.system.data.name}"
    return why_no_errors(found)


def _same_start(system: Side, against: Side) -> bool:
    """Whether the first answers of both are right on the same images in every condition: nothing is asked there."""
    return np.array_equal(system.answers.values[:, :, 0], against.answers.values[:, :, 0])


def _notes(system: Side, against: Side) -> list[str]:
    notes = []
    found = system.answers
    for each in (system, against):
        if each.left_out:
            notes.append(f"left out, because not all models have it: {', '.join(each.left_out)} of {each.label}")
    if any(name in BENCHMARK for name in found.perturbations()):
        why = why_no_errors(found) or why_no_mce(found)
        if why:
            notes.append(why)
    if (found.conditions["group"] == "attack").any():
        notes.append(
            "the mean over attacks and radii is no robust accuracy: that is the worst case over attacks, in "
            "robust-accuracy.csv of the run and in `pcbench report`"
        )
    if against.answers.system != found.system and _same_start(system, against):
        notes.append(f"{system.label} at t = {found.timesteps[0]} is right on the same images as {against.label}")
    return notes


def questions(found: Sequence[Side], baselines: Mapping[str, str | None], chosen: str | None = None) -> list[Question]:
    """The questions that the systems of one suite raise.

    Each network with dynamics against its own t = 0; and each system against a baseline: the chosen one, or the one
    that its model names, or, for a system that neither has nor is a baseline, the first system.

    Args:
        found: of one suite.
        baselines: label -> label of the system that its model names as its baseline, or None.
        chosen: label of the baseline of all.

    Raises:
        UserError: the chosen baseline is not among the systems.
    """
    by_label = {system.label: system for system in found}
    if chosen is not None and chosen not in by_label:
        raise UserError(f"no model {chosen!r} to compare with; {did_you_mean(chosen, by_label)}")
    named = {name for name in baselines.values() if name in by_label}
    result = []
    for system in found:
        if len(system.answers.timesteps) > 1:
            result.append(ask(system, own_start(system)))
        own = baselines.get(system.label)
        name = chosen or (own if own in by_label else None)
        if name is None and system.label not in named:
            name = found[0].label
        if name is not None and name != system.label:
            result.append(ask(system, by_label[name]))
    return result
