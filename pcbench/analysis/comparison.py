"""Which of several models resists better, at which timestep, against which perturbation, and how sure is that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from pcbench.analysis.alexnet import BENCHMARK
from pcbench.analysis.answers import Answers
from pcbench.analysis.corruption_errors import Outcomes, corruption_errors, why_no_errors, why_no_mce
from pcbench.analysis.families import Family, OfImages, family
from pcbench.analysis.images import Floats, of_conditions
from pcbench.analysis.means import Estimate
from pcbench.analysis.means import accuracy as mean_accuracy
from pcbench.analysis.paired import Paired, paired, stacked
from pcbench.analysis.verdicts import SAME, Judgement, judge
from pcbench.errors import UserError, did_you_mean

OVERALL = "all"


@dataclass(frozen=True)
class Headline:
    """The summary of a comparison: a row for each measure and timestep, and why a measure is not there."""

    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: Sequence[str] = ()


NONE = Headline()


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
        scope: the conditions and images that the mean is about, in words.
        headline: a row for each summary and timestep: see `pcbench.analysis.headline`.
        sides: the answers of both at all their timesteps; of a network against its own start, its own twice.
    """

    suite: str
    system: str
    against: str
    table: pd.DataFrame
    corruption_errors: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    judged: Mapping[str, Judgement] = field(default_factory=dict, repr=False)
    scope: str = ""
    headline: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    sides: tuple[Answers, Answers] | None = field(default=None, repr=False)

    @property
    def timesteps(self) -> list[int]:
        """At which the two were compared."""
        return sorted(int(t) for t in self.table["timestep"].unique())

    def repeats(self, other: "Question | None") -> bool:
        """Whether all numbers are those of another question: a network's t = 0 may be its baseline, image by image."""
        if other is None or (self.suite, self.system) != (other.suite, other.system):
            return False
        columns = [name for name in self.table if name != "against"]
        return self.table[columns].equals(other.table[columns])

    def at(self, timestep: int, perturbation: str = OVERALL) -> Judgement:
        """What is shown at one timestep, of one perturbation or of their mean."""
        steps = self.timesteps
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


@dataclass(frozen=True)
class Level:
    """The differences of one level: of each condition, of each perturbation, or of their mean.

    Attributes:
        about: a row for each of K things: perturbation, group, and of a condition its severity.
        differences: (K, timesteps).
        accuracy: (K, timesteps) of the system.
        reference: (K, timesteps) accuracies of what it is compared with.
    """

    about: pd.DataFrame
    differences: Paired
    accuracy: Estimate
    reference: Floats


@dataclass(frozen=True)
class Measured:
    """Two systems side by side, before anything is said of them: what families are made of.

    Attributes:
        system, against: see `measure`.
        steps: the timesteps at which they are compared.
        tested: (timesteps,) whether something is asked there; not where both have the same answers by construction.
        first, second: outcomes, conditions x timesteps x images.
        levels: "condition", "perturbation", "overall" -> its differences.
    """

    system: Side
    against: Side
    steps: list[int]
    tested: npt.NDArray[np.bool_]
    first: Outcomes = field(repr=False)
    second: Outcomes = field(repr=False)
    levels: Mapping[str, Level] = field(repr=False)


def measure(system: Side, against: Side, timesteps: Sequence[int] | None = None) -> Measured:
    """Two systems side by side.

    Args:
        system: what is asked about.
        against: what it is compared with; a network without dynamics has the same answer at each timestep.
        timesteps: only these; None for all that both have.

    Raises:
        UserError: a timestep that they do not have.
    """
    ours, theirs = system.answers, against.answers
    steps = _steps(ours, theirs)
    if timesteps is not None and len(steps) > 1:
        missing = [t for t in timesteps if t not in steps]
        if missing:
            shown = ", ".join(map(str, missing))
            raise UserError(
                f"{system.label} against {against.label} has timesteps {steps[0]} to {steps[-1]}, not {shown}"
            )
        steps = [t for t in steps if t in timesteps]
    mine, other = (
        [0 if len(found.timesteps) == 1 else found.timesteps.index(t) for t in steps] for found in (ours, theirs)
    )
    first, second = (
        np.ascontiguousarray(found.values[:, :, at].astype(bool).transpose(0, 2, 1))
        for found, at in ((ours, mine), (theirs, other))
    )
    names = ours.perturbations()
    weights = once_each(ours)
    of_each = [ours.places(name) for name in names]
    levels = {
        "condition": Level(
            ours.conditions,
            stacked([paired(first[[row]], second[[row]]) for row in range(len(first))]),
            _stacked([mean_accuracy(first[[row]]) for row in range(len(first))]),  # in float64, so one at a time
            second.mean(axis=-1),
        ),
        "perturbation": Level(
            pd.DataFrame({"perturbation": names, "group": [ours.group(name) for name in names]}),
            stacked([paired(first[rows], second[rows]) for rows in of_each]),
            _stacked([mean_accuracy(first[rows]) for rows in of_each]),
            np.stack([second[rows].mean(axis=(0, 2)) for rows in of_each]),
        ),
        "overall": Level(
            pd.DataFrame({"perturbation": [OVERALL], "group": [OVERALL]}),
            stacked([paired(first, second, weights)]),
            _stacked([mean_accuracy(first, weights)]),
            of_conditions(second, weights).mean(axis=-1)[None],
        ),
    }
    nothing = _same_start(system, against) and len(ours.timesteps) > 1  # is asked at t = 0
    tested = np.array([not (nothing and t == ours.timesteps[0]) for t in steps])
    return Measured(system, against, steps, tested, first, second, levels)


def ask(
    found: Measured,
    margin: float | None = None,
    families: Mapping[str, Family | None] | None = None,
    headline: Headline = NONE,
) -> Question:
    """What two systems side by side show.

    Args:
        found: the two.
        margin: within which accuracies count as equivalent, a fraction of images; None to claim no equivalence.
        families: level -> the family that its tests are part of; None for the tests of each level by themselves.
        headline: its summary.

    Returns:
        The question; its table has a row for each level ("overall", "perturbation", "condition"), perturbation,
        severity and timestep: accuracy and its interval, reference (accuracy), difference, its marginal interval
        diff_low, diff_high, its simultaneous interval sim_low, sim_high (percent, points), gained and lost (for a
        condition: images that only the system, only the other classifies correctly), n, test, p, p_corrected (over the
        family, which is the level's), significant, verdict (a word), best (highest accuracy over t).
        Intervals and tests: `pcbench.analysis.means`, `pcbench.analysis.paired`, `pcbench.analysis.families`.
    """
    system, against, ours = found.system, found.against, found.system.answers
    parts, notes, judged = [], [], {}
    for level, each in found.levels.items():
        together = families.get(level) if families is not None else family_of(level, [found])
        if together is not None and not (level == "overall" and len(ours.perturbations()) == 1):  # the same again
            notes.append(f"family of tests: {together}")
        shown = judge(each.differences, together if found.tested.any() else None, margin)
        parts.append(
            _rows(each, shown, found.tested).assign(level=level, timestep=np.tile(found.steps, len(each.about)))
        )
        if level != "condition":
            judged.update({name: shown[index] for index, name in enumerate(each.about["perturbation"])})
    table = pd.concat(parts, ignore_index=True)
    best = table.groupby(["level", "perturbation", "severity"], dropna=False)["accuracy"].transform("max")
    table = table.assign(best=table["accuracy"] == best)
    return Question(
        ours.suite,
        system.label,
        against.label,
        table.assign(suite=ours.suite, system=system.label, against=against.label, n=ours.values.shape[1]),
        corruption_errors(ours, found.steps, found.first, found.second, found.tested),
        [*_notes(system, against), *headline.notes, *notes],
        judged,
        scope_of(ours),
        headline.table,
        (ours, ours if against.answers.system == ours.system else against.answers),
    )


def scope_of(found: Answers) -> str:
    """The conditions and images that a mean of these answers is about, in words."""
    names = found.averaged()
    strengths = found.conditions.iloc[[place for name in names for place in found.places(name)]]["severity"]
    levels = sorted(set(strengths))
    kind = "severity" if set(levels) <= {1.0, 2.0, 3.0, 4.0, 5.0} else "strength"
    what = names[0].replace("_", " ") if len(names) == 1 else f"{len(names)} perturbations"
    if levels == [0.0]:
        return f"{what}, {found.on_what}"
    shown = ", ".join(f"{level:g}" for level in levels)
    if len(levels) > 3:
        shown = f"{levels[0]:g} to {levels[-1]:g}"
    return f"{what}, {kind} {shown}, {found.on_what}"


def once_each(found: Answers) -> Floats:
    """Weights of conditions with which each averaged perturbation counts once, however many severities it has."""
    weights = np.zeros(len(found.conditions))
    for name in found.averaged():
        own = found.places(name)
        weights[own] = 1 / len(own)
    return weights


def _stacked(found: Sequence[Estimate]) -> Estimate:
    return Estimate(*(np.stack([getattr(each, name) for each in found]) for name in ("value", "low", "high")))


def family_of(level: str, found: Sequence[Measured]) -> Family | None:
    """The tests of one level of some comparisons, corrected together; None where nothing is asked.

    Comparisons on the same images share a block, whose correlations are used; conditions of several comparisons are
    taken as independent of each other, which never corrects too little and needs no table of all with all.
    """
    asked = [each for each in found if each.tested.any()]
    if not asked:
        return None
    if len(asked) == 1:
        only = asked[0]
        ours = only.system.answers
        rows, averaged = len(only.levels[level].about), len(ours.averaged())
        what = {
            "condition": _count(rows, "condition"),
            "perturbation": _count(rows, "perturbation"),
            "overall": f"the mean over {_count(averaged, 'perturbation')}",
        }[level]
        return family(
            f"{what} x {_count(int(only.tested.sum()), 'timestep')}",
            [[only.levels[level].differences[:, only.tested]]],
        )
    blocks: dict[object, list[OfImages]] = {}
    for number, each in enumerate(asked):
        answers = each.system.answers
        place = number if level == "condition" else (answers.system.data, answers.values.shape[1])
        blocks.setdefault(place, []).append(each.levels[level].differences[:, each.tested])
    every = {"condition": "every condition", "perturbation": "every perturbation", "overall": "the mean of every suite"}
    return family(f"{every[level]} and timestep of all {len(asked)} comparisons", list(blocks.values()))


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _rows(level: Level, shown: Judgement, tested: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """A row for each of what it is about and each timestep, in percent and points. All arrays: (K, timesteps)."""
    about, differences, accuracy, reference = level.about, level.differences, level.accuracy, level.reference
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
        verdict=np.where(asked, shown.words.ravel(), SAME),
    )


def _steps(ours: Answers, theirs: Answers) -> list[int]:
    """The timesteps at which two systems can be compared."""
    if len(theirs.timesteps) == 1:
        return ours.timesteps
    return [t for t in theirs.timesteps if len(ours.timesteps) == 1 or t in ours.timesteps]


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


def pairs(
    found: Sequence[Side], baselines: Mapping[str, str | None], chosen: str | None = None
) -> list[tuple[Side, Side]]:
    """What is compared with what, of the systems of one suite.

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
            result.append((system, own_start(system)))
        own = baselines.get(system.label)
        name = chosen or (own if own in by_label else None)
        if name is None and system.label not in named:
            name = found[0].label
        if name is not None and name != system.label:
            result.append((system, by_label[name]))
    return result
