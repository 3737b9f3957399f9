"""Summaries that conditions at chance cannot decide, nor a trade of clean accuracy for robustness.

Where every network guesses, a difference is luck: the area under accuracy against strength is taken over those
strengths at which the baseline is above chance. A network that gains under noise what it loses on clean images may do
no more than any blur in front of a network does: the frontier compares it with what controls reach at the same clean
accuracy, and effective robustness (Taori et al. 2020, arXiv 2007.00644) with what their clean accuracies predict.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from pcbench.analysis.images import IMAGINARY, Floats
from pcbench.analysis.means import Estimate
from pcbench.analysis.paired import reach, two_sided
from pcbench.intervals import LEVEL, wilson

_STEP = 1e-5


def above_chance(baseline: npt.ArrayLike, chance: float, level: float = LEVEL) -> npt.NDArray[np.bool_]:
    """At which conditions a baseline is shown to do more than guess.

    Args:
        baseline: (C, I) outcomes of the baseline (a network with dynamics: at t = 0).
        chance: accuracy of guessing, 1 / classes where classes are equally frequent.
        level: the lower limit of Wilson's interval at this level must lie above chance.
    """
    correct = np.asarray(baseline)
    low, _ = wilson(correct.sum(axis=-1), correct.shape[-1], level)
    return np.asarray(low > chance)


def area_weights(strengths: npt.ArrayLike, kept: npt.ArrayLike) -> Floats:
    """What each strength counts in the area under accuracy against strength, divided by the range of strengths.

    The area (trapezoidal) is then the weighted mean accuracy, in [0, 1], and has the intervals of
    `pcbench.analysis.means.accuracy` and `pcbench.analysis.paired.paired` with these weights.

    Args:
        strengths: (C,) all different, in any order: the noise's sigma, severities, or a function of them.
        kept: (C,) which of them count: see `above_chance`.

    Returns:
        (C,), adding up to 1; of a single strength, 1.

    Raises:
        ValueError: no strength is kept, or two are equal.

    >>> area_weights([0.25, 0.5, 1, 2], [True, True, True, False]).round(3).tolist()
    [0.167, 0.5, 0.333, 0.0]
    """
    x, chosen = np.asarray(strengths, dtype=float), np.asarray(kept, dtype=bool)
    at = np.flatnonzero(chosen)[np.argsort(x[chosen])]
    if len(at) == 0:
        raise ValueError("the baseline is at chance at every strength, so there is no area to compare")
    gaps = np.diff(x[at])
    if not (gaps > 0).all():
        raise ValueError("two conditions have the same strength")
    weights = np.zeros(len(x))
    if len(at) == 1:
        weights[at] = 1.0
        return weights
    weights[at[:-1]] += gaps / 2
    weights[at[1:]] += gaps / 2
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True)
class AboveChance:
    """Conditions that decide a comparison, and what each counts.

    Attributes:
        weights: (C,) adding up to 1: each perturbation counts once, by the area over its kept strengths.
        kept: (C,) where the baseline is above chance, there and at every smaller strength.
        left_out: perturbations at which the baseline is at chance at every strength.
    """

    weights: Floats
    kept: npt.NDArray[np.bool_]
    left_out: tuple[str, ...]


def weigh_above_chance(
    conditions: Sequence[tuple[str, float]], baseline: npt.ArrayLike, chance: float, level: float = LEVEL
) -> AboveChance:
    """The weights of a comparison over the strengths at which the baseline is above chance.

    Args:
        conditions: (perturbation, strength) of each condition; without clean images, which are no perturbation.
        baseline: (C, I) outcomes of the baseline.
        chance: accuracy of guessing.
        level: as of `above_chance`.

    Raises:
        ValueError: the baseline is at chance everywhere, or a condition is there twice.
    """
    kept = above_chance(baseline, chance, level)
    names = [name for name, _ in conditions]
    strengths = np.array([strength for _, strength in conditions], dtype=float)
    weights, left_out = np.zeros(len(names)), []
    for name in dict.fromkeys(names):
        own = np.array([other == name for other in names])
        # A network that gives one answer to everything is above chance where images of that class are many: past the
        # first strength at chance, such luck would have the whole weight of the gap.
        rising = np.flatnonzero(own)[np.argsort(strengths[own], kind="stable")]
        kept[rising] = np.logical_and.accumulate(kept[rising])
        if (own & kept).any():
            weights += area_weights(np.where(own, strengths, 0.0), own & kept)
        else:
            left_out.append(name)
    if not weights.any():
        raise ValueError("the baseline is at chance in every condition, so there is nothing to compare")
    return AboveChance(weights / weights.sum(), kept, tuple(left_out))


@dataclass(frozen=True)
class Excess:
    """Accuracy beyond what controls lead one to expect, as fractions of images; one for each timestep.

    Attributes:
        value: with its interval over images (the controls' images are the same); NaN where controls say nothing.
        expected: the accuracy that controls lead one to expect.
        p: two-sided p-values of no excess.
    """

    value: Estimate
    expected: Floats
    p: Floats


def envelope(clean: npt.ArrayLike, perturbed: npt.ArrayLike, at: float) -> float:
    """The best accuracy under perturbation that some points reach while keeping a clean accuracy.

    Between two controls every point of the line is reached by tossing a coin for each image which of them answers, so
    the frontier is the upper concave hull; a control with more clean accuracy than asked for counts too.

    Args:
        clean: (K,) the controls' clean accuracies.
        perturbed: (K,) their accuracies under perturbation.
        at: the clean accuracy to keep.

    Returns:
        NaN where no control keeps so much.

    >>> [round(envelope([0.9, 0.8, 0.6], [0.3, 0.5, 0.6], at), 3) for at in (0.9, 0.85, 0.8, 0.5)]
    [0.3, 0.4, 0.5, 0.6]
    """
    points = sorted(zip(np.asarray(clean, dtype=float), np.asarray(perturbed, dtype=float), strict=True))
    if not points or at > points[-1][0]:
        return float("nan")
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) > 1 and _turns_up(hull[-2], hull[-1], point):
            hull.pop()
        if hull and hull[-1][0] == point[0]:
            hull.pop()  # the points are sorted: this one is at least as high
            while len(hull) > 1 and _turns_up(hull[-2], hull[-1], point):
                hull.pop()
        hull.append(point)
    top = max(range(len(hull)), key=lambda i: hull[i][1])
    falling = hull[top:]
    return float(np.interp(at, [x for x, _ in falling], [y for _, y in falling]))


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) >= (b[1] - a[1]) * (c[0] - a[0])


def beyond_frontier(
    clean: npt.ArrayLike,
    perturbed: npt.ArrayLike,
    controls_clean: npt.ArrayLike,
    controls_perturbed: npt.ArrayLike,
    level: float = LEVEL,
) -> Excess:
    """How much more accurate a network is under perturbation than controls of the same clean accuracy (see `envelope`).

    Args:
        clean: (T + 1, I) outcomes on clean images.
        perturbed: (T + 1, I) each image's mean over perturbed conditions (`pcbench.analysis.images.of_conditions`).
        controls_clean: (K, I) outcomes of the controls, or of one control at several strengths, on the same images.
        controls_perturbed: (K, I).
        level: confidence.

    Returns:
        (T + 1,) each; NaN at timesteps whose clean accuracy no control keeps.
    """

    def expected(means: Floats) -> float:
        k = (len(means) - 2) // 2
        return envelope(means[2 : 2 + k], means[2 + k :], means[0])

    return _excess(expected, clean, perturbed, controls_clean, controls_perturbed, level)


def effective_robustness(
    clean: npt.ArrayLike,
    perturbed: npt.ArrayLike,
    controls_clean: npt.ArrayLike,
    controls_perturbed: npt.ArrayLike,
    level: float = LEVEL,
) -> Excess:
    """How much more accurate a network is under perturbation than its clean accuracy predicts.

    The prediction is the least-squares line through the controls, of logit accuracy under perturbation against logit
    clean accuracy. An accuracy of 0 or 1 enters as half an image from it.

    Args:
        clean: as of `beyond_frontier`.
        perturbed: as of `beyond_frontier`.
        controls_clean: (K, I), of controls with at least two different clean accuracies.
        controls_perturbed: (K, I).
        level: confidence.

    Raises:
        ValueError: controls that are all equally accurate on clean images give no line.
    """
    controls = np.asarray(controls_clean, dtype=float)
    if len(np.unique(controls.mean(axis=-1))) < 2:
        raise ValueError("a line takes controls with at least two different clean accuracies")
    half = 0.5 / controls.shape[-1]

    def scaled(accuracies: Floats) -> Floats:
        return np.asarray(logit(np.clip(accuracies, half, 1 - half)))

    def expected(means: Floats) -> float:
        k = (len(means) - 2) // 2
        x, y = scaled(means[2 : 2 + k]), scaled(means[2 + k :])
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        return float(expit(y.mean() + slope * (scaled(means[0]) - x.mean())))

    return _excess(expected, clean, perturbed, controls_clean, controls_perturbed, level)


def _excess(
    expected: Callable[[Floats], float],
    clean: npt.ArrayLike,
    perturbed: npt.ArrayLike,
    controls_clean: npt.ArrayLike,
    controls_perturbed: npt.ArrayLike,
    level: float,
) -> Excess:
    """The excess over a function of all mean accuracies: delta method, with each image's influence on all of them."""
    own = np.atleast_2d(np.asarray(clean, dtype=float)), np.atleast_2d(np.asarray(perturbed, dtype=float))
    controls = np.concatenate([np.asarray(controls_clean, dtype=float), np.asarray(controls_perturbed, dtype=float)])
    if own[0].shape != own[1].shape or controls.ndim != 2 or controls.shape[1] != own[0].shape[1]:
        raise ValueError("clean and perturbed outcomes of the network and of its controls are on the same images")
    n = controls.shape[1]
    value, guess, spread = (np.empty(len(own[0])) for _ in range(3))
    for t, (of_clean, of_perturbed) in enumerate(zip(*own, strict=True)):
        table = np.concatenate([[of_clean, of_perturbed], controls])
        means = table.mean(axis=1)
        guess[t] = expected(means)
        value[t] = means[1] - guess[t]
        gradient = np.array([-_slope(expected, means, i) for i in range(len(means))])
        gradient[1] += 1
        influence = gradient @ (table - means[:, None])
        spread[t] = np.sqrt((influence**2).sum() + IMAGINARY) / n
    half = reach((1 - level) / 2) * spread
    limits = Estimate(value, np.maximum(value - half, -1), np.minimum(value + half, 1))
    return Excess(limits, guess, np.where(np.isnan(value), np.nan, two_sided(value / spread)))


def _slope(function: Callable[[Floats], float], means: Floats, at: int) -> float:
    """Partial derivative; one-sided where the other side has no value (the frontier's end)."""
    ahead, behind = means.copy(), means.copy()
    ahead[at] += _STEP
    behind[at] -= _STEP
    middle, up, down = function(means), function(ahead), function(behind)
    if np.isnan(up):
        return (middle - down) / _STEP
    if np.isnan(down):
        return (up - middle) / _STEP
    return (up - down) / (2 * _STEP)
