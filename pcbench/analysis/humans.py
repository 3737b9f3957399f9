"""Networks next to people on the same images: who is right, who errs where, and who takes long.

People answer once; a network has an answer at every timestep, so each measure is asked at each. Observers are drawn
like images are: differences of accuracy cover both.

Source of the measures: Geirhos et al. 2021 (arXiv 2106.07411), section 2; per timestep they are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

from pcbench.analysis.consistency import Consistency, error_consistency
from pcbench.analysis.images import Floats
from pcbench.analysis.means import Estimate
from pcbench.analysis.paired import Paired, paired
from pcbench.analysis.seeds import paired_recipes
from pcbench.analysis.trials import Trials
from pcbench.errors import UserError
from pcbench.intervals import LEVEL


@dataclass(frozen=True)
class WithPeople:
    """A network next to people in one condition.

    Attributes:
        condition: its name.
        stimuli: number of images.
        observers: who saw them all.
        people: mean accuracy of the observers.
        network: (T + 1,) accuracy of the network.
        difference: (T + 1,) network minus people; its intervals cover images and, of two or more, observers.
        consistency: (T + 1, 1) with people: the mean over observers.
        among_people: (1, 1) of people with each other, the mean over pairs; None with a single observer.
        reaction: rank correlation of reaction time with the network's time to decide, the mean over observers; NaN
            where either does not vary, or no decision times were given.
    """

    condition: str
    stimuli: int
    observers: tuple[str, ...]
    people: float
    network: Floats
    difference: Paired
    consistency: Consistency
    among_people: Consistency | None
    reaction: Estimate

    def rows(self) -> list[dict[str, object]]:
        """A row for each timestep: accuracies and their difference in fractions, kappa with its bounds; None: unknown.

        Columns: condition, stimuli, observers, timestep, network, people, difference, diff_low, diff_high, p, kappa,
        kappa_low, kappa_high, kappa_least, kappa_most, observed, expected, kappa_people, reaction, reaction_low,
        reaction_high. p-values and intervals are marginal.
        """
        limits, p, kappa = self.difference.interval(), self.difference.p(), self.consistency
        whole = {
            "kappa_people": None if self.among_people is None else _known(self.among_people.kappa[0, 0]),
            "reaction": _known(self.reaction.value),
            "reaction_low": _known(self.reaction.low),
            "reaction_high": _known(self.reaction.high),
        }
        return [
            {
                "condition": self.condition,
                "stimuli": self.stimuli,
                "observers": len(self.observers),
                "timestep": t,
                "network": float(self.network[t]),
                "people": self.people,
                "difference": float(limits.value[t]),
                "diff_low": float(limits.low[t]),
                "diff_high": float(limits.high[t]),
                "p": float(p[t]),
                "kappa": _known(kappa.kappa[t, 0]),
                "kappa_low": _known(kappa.low[t, 0]),
                "kappa_high": _known(kappa.high[t, 0]),
                "kappa_least": _known(kappa.least[t, 0]),
                "kappa_most": _known(kappa.most[t, 0]),
                "observed": float(kappa.observed[t, 0]),
                "expected": float(kappa.expected[t, 0]),
                **whole,
            }
            for t in range(len(self.network))
        ]


def _known(value: Floats | float) -> float | None:
    return None if np.isnan(value) else float(value)


def with_people(
    trials: Trials,
    stimuli: Sequence[str],
    predictions: npt.ArrayLike,
    decided: npt.ArrayLike | None = None,
    level: float = LEVEL,
) -> tuple[list[WithPeople], list[str]]:
    """Compare a network with people, condition by condition.

    Args:
        trials: of the people.
        stimuli: (N,) what the network was shown (`pcbench.analysis.trials.stimulus_of` of each file's name).
        predictions: (T + 1, N) the network's categories, indices of `CATEGORIES`.
        decided: (N,) its times to decide (`pcbench.analysis.decisions`), in timesteps.
        level: confidence.

    Returns:
        The comparisons, in the order of the conditions' names, and the names of conditions of which the network was
        shown nothing.

    Raises:
        UserError: a stimulus twice; part of a condition was not shown; observers of a condition who saw different
            images or give it different categories; nothing in common.
    """
    answers = np.asarray(predictions)
    steps = None if decided is None else np.asarray(decided)
    if answers.ndim != 2 or answers.shape[1] != len(stimuli) or (steps is not None and steps.shape != (len(stimuli),)):
        raise ValueError(f"{len(stimuli)} stimuli take predictions (T + 1, N) and decision times (N,)")
    place = {name: index for index, name in enumerate(stimuli)}
    if len(place) < len(stimuli):
        raise UserError("the network was shown the same stimulus twice")
    found, absent = [], []
    for condition in sorted(set(trials.condition.tolist())):
        table = _table(trials, condition)
        at = np.array([place.get(name, -1) for name in table.stimuli])
        if (at < 0).all():
            absent.append(condition)
            continue
        if (at < 0).any():
            missing = int((at < 0).sum())
            raise UserError(
                f"condition {condition}: {missing} of {len(at)} stimuli were not shown to the network, such as "
                f"{table.stimuli[int(np.argmin(at))]}"
            )
        found.append(_compare(table, answers[:, at] == table.category, None if steps is None else steps[at], level))
    if not found:
        raise UserError("the network was shown none of the stimuli that people were shown")
    return found, absent


@dataclass(frozen=True)
class _Table:
    """One condition: observers (S,), stimuli (N,), categories (N,), correct and seconds (S, N)."""

    condition: str
    observers: tuple[str, ...]
    stimuli: list[str]
    category: npt.NDArray[np.int64]
    correct: npt.NDArray[np.bool_]
    seconds: Floats


def _table(trials: Trials, condition: str) -> _Table:
    rows = np.flatnonzero(trials.condition == condition)
    observers, who = np.unique(trials.observer[rows], return_inverse=True)
    stimuli, what = np.unique(trials.stimulus[rows], return_inverse=True)
    cell = who * len(stimuli) + what
    if len(rows) != len(observers) * len(stimuli) or len(np.unique(cell)) != len(rows):
        raise UserError(f"condition {condition}: the {len(observers)} observers were not all shown the same images")
    order = rows[np.argsort(cell)]
    shape = len(observers), len(stimuli)
    category = trials.category[order].reshape(shape)
    if (category != category[0]).any():
        raise UserError(f"condition {condition}: the observers' files give an image different categories")
    return _Table(
        condition,
        tuple(observers.tolist()),
        stimuli.tolist(),
        category[0],
        trials.correct[order].reshape(shape),
        trials.seconds[order].reshape(shape),
    )


def _compare(
    people: _Table, network: npt.NDArray[np.bool_], decided: npt.NDArray[np.generic] | None, level: float
) -> WithPeople:
    observers, n = people.correct.shape
    one = people.correct[:, None, None]  # observers x conditions x timesteps x images
    difference = (
        paired_recipes(network[None, None], one, called="observers") if observers > 1 else paired(network[None], one[0])
    )
    pairs = np.array(list(combinations(range(observers), 2))).reshape(-1, 2)
    return WithPeople(
        people.condition,
        n,
        people.observers,
        float(people.correct.mean()),
        network.mean(axis=-1),
        difference,
        error_consistency(np.broadcast_to(network, (observers, *network.shape)), people.correct[:, None], level),
        error_consistency(people.correct[pairs[:, 0], None], people.correct[pairs[:, 1], None], level)
        if len(pairs)
        else None,
        _correlation(people.seconds, decided, level),
    )


def _correlation(seconds: Floats, decided: npt.NDArray[np.generic] | None, level: float) -> Estimate:
    """Spearman's correlation, averaged over observers as Fisher's z.

    The observers saw the same images, so their errors are not independent: the interval takes them as one and the same.
    The standard error is that of Bonett and Wright 2000 (Psychometrika 65, 23-28).
    """
    none = Estimate(*(np.asarray(np.nan) for _ in range(3)))
    if decided is None:
        return none
    fisher, errors = [], []
    for own in seconds:
        known = np.isfinite(own)
        x, y = stats.rankdata(own[known]), stats.rankdata(decided[known])
        if known.sum() < 5 or np.ptp(x) == 0 or np.ptp(y) == 0:
            return none
        rho = float(np.clip(np.corrcoef(x, y)[0, 1], -1 + 1e-9, 1 - 1e-9))
        fisher.append(np.arctanh(rho))
        errors.append(np.sqrt((1 + rho**2 / 2) / (known.sum() - 3)))
    centre, half = np.mean(fisher), stats.norm.isf((1 - level) / 2) * np.mean(errors)
    return Estimate(*(np.asarray(np.tanh(value)) for value in (centre, centre - half, centre + half)))
