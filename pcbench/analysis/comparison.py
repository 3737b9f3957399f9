"""Which of several models resists better, at which timestep, against which perturbation, and how sure is that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from pcbench.analysis.alexnet import BENCHMARK
from pcbench.analysis.alexnet import ERRORS as ALEXNET
from pcbench.analysis.answers import Answers
from pcbench.analysis.families import Family, OfImages, family
from pcbench.analysis.images import Floats, of_conditions
from pcbench.analysis.means import Estimate
from pcbench.analysis.means import accuracy as mean_accuracy
from pcbench.analysis.paired import Paired, paired, stacked
from pcbench.analysis.ratios import mce_weights, ratio
from pcbench.analysis.verdicts import Judgement, judge
from pcbench.errors import UserError, did_you_mean

OVERALL = "all"
Outcomes = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Side:
    """One model of one run in one suite, as a comparison sees it.

    Attributes:
        label: how it is called in tables, unique in a comparison.
        answers: what it answered.
        left_out: conditions that others of the comparison lack.
    """

    label: str
    answers: Answers
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
        notes: what a reader must know, and the families of tests.
        judged: perturbation ("all" for the mean) -> its differences at each timestep, and what they show.
    """

    suite: str
    system: str
    against: str
    table: pd.DataFrame
    corruption_errors: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    judged: Mapping[str, Judgement] = field(default_factory=dict, repr=False)

    def repeats(self, other: "Question | None") -> bool:
        """Whether all numbers are those of another question: a network's t = 0 may be its baseline, image by image."""
        if other is None or (self.suite, self.system) != (other.suite, other.system):
            return False
        columns = [name for name in self.table if name != "against"]
        return self.table[columns].equals(other.table[columns])

    def at(self, timestep: int, perturbation: str = OVERALL) -> Judgement:
        """What is shown at one timestep, of one perturbation or of their mean."""
        steps = sorted(self.table["timestep"].unique().tolist())
        if perturbation not in self.judged or timestep not in steps:
            raise UserError(f"{self.system} has no {perturbation} at t = {timestep} in suite {self.suite}")
        return self.judged[perturbation][steps.index(timestep)]


def systems(found: Sequence[Answers], loosely: bool = False) -> list[Side]:
    """The systems of a suite on the images and conditions that they share.

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
        result.append(Side(each.label, kept, left_out))
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
    return Side(f"{system.label} at t = {first.timesteps[0]}", first)


def ask(system: Side, against: Side, margin: float | None = None) -> Question:
    """Compare at every timestep; a network without dynamics has the same answer at each.

    Args:
        system: what is asked about.
        against: what it is compared with.
        margin: within which accuracies count as equivalent, a fraction of images; None to claim no equivalence.

    Returns:
        The question; its table has a row for each level ("overall", "perturbation", "condition"), perturbation,
        severity and timestep: accuracy and its interval, reference (accuracy), difference, its marginal interval
        diff_low, diff_high, its simultaneous interval sim_low, sim_high (percent, points), gained and lost (for a
        condition: images that only the system, only the other classifies correctly), n, test, p, p_corrected (over the
        family, which is the level's), significant, verdict (a word), best (highest accuracy over t).
        Intervals and tests: `pcbench.analysis.means`, `pcbench.analysis.paired`, `pcbench.analysis.families`.
    """
    ours, theirs = system.answers, against.answers
    steps = _steps(ours, theirs)
    mine, other = (
        [0 if len(found.timesteps) == 1 else found.timesteps.index(t) for t in steps] for found in (ours, theirs)
    )
    # conditions x timesteps x images
    first, second = (
        np.ascontiguousarray(found.values[:, :, at].astype(bool).transpose(0, 2, 1))
        for found, at in ((ours, mine), (theirs, other))
    )
    names = ours.perturbations()
    weights = once_each(ours)
    of_each = [np.flatnonzero(ours.conditions["perturbation"] == name) for name in names]
    levels = {
        "condition": (
            ours.conditions,
            stacked([paired(first[[row]], second[[row]]) for row in range(len(first))]),
            _stacked([mean_accuracy(first[[row]]) for row in range(len(first))]),  # in float64, so one at a time
            second.mean(axis=-1),
        ),
        "perturbation": (
            pd.DataFrame({"perturbation": names, "group": [ours.group(name) for name in names]}),
            stacked([paired(first[rows], second[rows]) for rows in of_each]),
            _stacked([mean_accuracy(first[rows]) for rows in of_each]),
            np.stack([second[rows].mean(axis=(0, 2)) for rows in of_each]),
        ),
        "overall": (
            pd.DataFrame({"perturbation": [OVERALL], "group": [OVERALL]}),
            stacked([paired(first, second, weights)]),
            _stacked([mean_accuracy(first, weights)]),
            of_conditions(second, weights).mean(axis=-1)[None],
        ),
    }
    nothing = _same_start(system, against) and len(ours.timesteps) > 1  # is asked at t = 0
    tested = np.array([not (nothing and t == ours.timesteps[0]) for t in steps])
    parts, notes, judged = [], [], {}
    for level, (about, differences, accuracy, reference) in levels.items():
        together = _family(level, differences, tested, ours)
        if together is not None and not (level == "overall" and len(names) == 1):  # the perturbation's own, again
            notes.append(f"family of tests: {together}")
        shown = judge(differences, together, margin)
        rows = _rows(about, shown, differences, accuracy, reference, tested)
        parts.append(rows.assign(level=level, timestep=np.tile(steps, len(about))))
        if level != "condition":
            judged.update({name: shown[index] for index, name in enumerate(about["perturbation"])})
    table = pd.concat(parts, ignore_index=True)
    best = table.groupby(["level", "perturbation", "severity"], dropna=False)["accuracy"].transform("max")
    table = table.assign(best=table["accuracy"] == best)
    return Question(
        ours.suite,
        system.label,
        against.label,
        table.assign(suite=ours.suite, system=system.label, against=against.label, n=ours.values.shape[1]),
        ratios(system, against, steps, first, second, tested),
        [*_notes(system, against), *notes],
        judged,
    )


def once_each(found: Answers) -> Floats:
    """Weights of conditions with which each averaged perturbation counts once, however many severities it has."""
    names = found.conditions["perturbation"].to_numpy()
    averaged = found.averaged()
    return np.array([1 / (names == name).sum() if name in averaged else 0.0 for name in names])


def _stacked(found: Sequence[Estimate]) -> Estimate:
    return Estimate(*(np.stack([getattr(each, name) for each in found]) for name in ("value", "low", "high")))


def _family(level: str, found: Paired, tested: npt.NDArray[np.bool_], ours: Answers) -> Family | None:
    """The tests of one level, of differences (K, timesteps); None where nothing is asked."""
    if not tested.any():
        return None
    rows, averaged, times = len(found.difference), len(ours.averaged()), int(tested.sum())
    what = {
        "condition": _count(rows, "condition"),
        "perturbation": _count(rows, "perturbation"),
        "overall": f"the mean over {_count(averaged, 'perturbation')}",
    }[level]
    return family(f"{what} x {_count(times, 'timestep')}", [[found[:, tested]]])


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _rows(
    about: pd.DataFrame,
    shown: Judgement,
    differences: Paired,
    accuracy: Estimate,
    reference: Floats,
    tested: npt.NDArray[np.bool_],
) -> pd.DataFrame:
    """A row for each of what it is about and each timestep, in percent and points. All arrays: (K, timesteps)."""
    columns = {
        "accuracy": accuracy.value,
        "ci_low": accuracy.low,
        "ci_high": accuracy.high,
        "reference": reference,
        "difference": shown.difference.value,
        "diff_low": shown.difference.low,
        "diff_high": shown.difference.high,
        "sim_low": shown.simultaneous.low,
        "sim_high": shown.simultaneous.high,
    }
    one = "severity" in about
    table = about.loc[about.index.repeat(len(tested))].reset_index(drop=True)
    asked = np.tile(tested, len(about))
    return table.assign(
        severity=table["severity"] if one else np.nan,
        **{name: 100 * np.asarray(values).ravel() for name, values in columns.items()},
        gained=np.rint(differences.gained * differences.n).ravel() if one else np.nan,
        lost=np.rint(differences.lost * differences.n).ravel() if one else np.nan,
        test="score (McNemar)" if one else "score, by image",
        p=np.where(asked, shown.p.ravel(), np.nan),
        p_corrected=np.where(asked, shown.p_corrected.ravel(), np.nan),
        significant=asked & shown.shown.ravel(),
        verdict=np.where(asked, shown.words.ravel(), "the same by construction"),
    )


def _steps(ours: Answers, theirs: Answers) -> list[int]:
    """The timesteps at which two systems can be compared."""
    if len(theirs.timesteps) == 1:
        return ours.timesteps
    return [t for t in theirs.timesteps if len(ours.timesteps) == 1 or t in ours.timesteps]


def ratios(
    system: Side,
    against: Side,
    steps: Sequence[int],
    first: Outcomes,
    second: Outcomes,
    tested: npt.NDArray[np.bool_],
) -> pd.DataFrame:
    """Corruption errors at each timestep, with intervals over images, where the suite has severities 1-5.

    Args:
        system: what is asked about.
        against: what it is compared with.
        steps: the timesteps.
        first: its outcomes, conditions x timesteps x images.
        second: those of `against`.
        tested: the timesteps at which something is asked.

    Returns:
        Rows: measure, timestep, value, low, high, p, p_corrected. Measures: "mCE" (percent of AlexNet's, mean of 15
        CEs; only of ImageNet-C), "mCE difference" (from `against`), "ratio of means" and "mean of ratios" (errors in
        percent of `against`'s). low and high are marginal; p: of no difference (100 % for the ratios), p_corrected over
        the timesteps at which something is asked.
    """
    found = system.answers
    if why_no_errors(found):
        return pd.DataFrame()
    parts = []

    def add(measure: str, estimate: Estimate, p: npt.NDArray[np.float64] | None, tests: OfImages | None) -> None:
        part = pd.DataFrame({"measure": measure, "timestep": steps, "value": estimate.value})
        part = part.assign(low=estimate.low, high=estimate.high, p=np.nan, p_corrected=np.nan)
        if p is not None and tests is not None and tests.size:
            part["p"] = np.where(tested, p, np.nan)
            part.loc[tested, "p_corrected"] = family(f"{measure} x {tested.sum()} timesteps", [[tests]]).p(p[tested])
        parts.append(part)

    if not why_no_mce(found):
        conditions = list(zip(found.conditions["perturbation"], found.conditions["severity"], strict=True))
        weights, scale = mce_weights(conditions, ALEXNET, BENCHMARK)
        difference = paired(~first, ~second, weights)
        add("mCE", mean_accuracy(~first, weights) * scale, None, None)
        add("mCE difference", difference.interval() * scale, difference.p(), difference[tested])
    rows = [np.flatnonzero(found.conditions["perturbation"] == name) for name in found.averaged()]
    ours, theirs = (np.stack([of_conditions(~each[own]) for own in rows]) for each in (first, second))
    kinds: tuple[tuple[str, Literal["ratio-of-means", "mean-of-ratios"]], ...] = (
        ("ratio of means", "ratio-of-means"),
        ("mean of ratios", "mean-of-ratios"),
    )
    for measure, how in kinds:
        relative = ratio(ours, theirs, how)
        if not np.isnan(relative.value).any():
            add(measure, relative.interval() * 100, relative.p(), relative[tested])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


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
