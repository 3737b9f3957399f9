"""Errors in percent of another's errors, with intervals: corruption errors, and mCE against a published table.

An mCE against a fixed table is a weighted mean of error rates, so it has the intervals of those
(`pcbench.analysis.means`, `pcbench.analysis.paired`). Against another network, or its own t = 0, it is a ratio of two
means of the same images; its logarithm has a standard error from each image's influence (delta method).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from pcbench.analysis.images import IMAGINARY, Floats
from pcbench.analysis.means import Estimate
from pcbench.analysis.paired import reach, two_sided
from pcbench.intervals import LEVEL

# Half an imaginary image each that both, the first, the second and neither get wrong: intervals (not values) of
# networks that make the same errors, or none, have width. The usual device for ratios of rates (Walter 1975).
_IMAGINED = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
_EACH = 0.5


@dataclass(frozen=True)
class Ratio:
    """Mean errors relative to another's, 1 where equal; any shape.

    Attributes:
        value: the ratios; NaN where the other makes no errors.
        centre: logarithms that intervals are around.
        spread: standard errors of the logarithms.
        n: number of images.
        per_image: (..., I) influence of each image on the logarithms.
    """

    value: Floats
    centre: Floats
    spread: Floats
    n: int
    per_image: npt.NDArray[np.float32]

    @property
    def size(self) -> int:
        """How many ratios."""
        return self.value.size

    @property
    def imagined(self) -> Floats:
        """What is no two tests' own, of the sum of squares of `per_image`: see `pcbench.analysis.families`."""
        return np.asarray(IMAGINARY * self.n * self.spread**2)

    def __getitem__(self, at: int | slice | npt.NDArray[np.bool_]) -> "Ratio":
        """Some of the ratios."""
        return Ratio(self.value[at], self.centre[at], self.spread[at], self.n, self.per_image[at])

    def p(self) -> Floats:
        """Two-sided p-values of equal errors (a ratio of 1); NaN where there is no ratio."""
        return np.asarray(np.where(np.isnan(self.value), np.nan, two_sided(self.centre / self.spread)))

    def interval(self, level: float = LEVEL) -> Estimate:
        """Marginal intervals: they leave out 1 exactly where p() < 1 - level, and are NaN where there is no ratio."""
        half = reach((1 - level) / 2) * self.spread
        low, high = np.exp(self.centre - half), np.exp(self.centre + half)
        return Estimate(self.value, np.minimum(low, self.value), np.maximum(high, self.value))


def ratio(above: npt.ArrayLike, below: npt.ArrayLike, how: Literal["ratio-of-means", "mean-of-ratios"]) -> Ratio:
    """Errors relative to another's on the same images.

    Args:
        above: (C, ..., I) each image's error in [0, 1] under each corruption (its mean over severities), images last.
        below: the same of what it is relative to; axes of length 1 are repeated.
        how: "ratio-of-means" as Predify's paper, or "mean-of-ratios" as mCE; see `pcbench.metrics.relative_to`.

    Returns:
        Of shape (...). Simulated coverage of intervals at 95 %: 93 to 98 from 100 images on.

    >>> wrong = np.zeros((1, 200)), np.zeros((1, 200))
    >>> wrong[0][0, :50], wrong[1][0, 20:100] = 1, 1
    >>> found = ratio(*wrong, "ratio-of-means")
    >>> limits = found.interval()
    >>> print(f"{found.value:.3f} [{limits.low:.3f}, {limits.high:.3f}]")
    0.625 [0.487, 0.814]
    """
    first, second = np.broadcast_arrays(np.asarray(above, dtype=float), np.asarray(below, dtype=float))
    if first.ndim < 2 or 0 in (first.shape[0], first.shape[-1]):
        raise ValueError(f"errors of at least one corruption and one image are needed, not an array {first.shape}")
    if how == "ratio-of-means":
        first, second = first.mean(axis=0, keepdims=True), second.mean(axis=0, keepdims=True)
    n = first.shape[-1]
    means = first.mean(axis=-1), second.mean(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where((means[1] > 0).all(axis=0), (means[0] / means[1]).mean(axis=0), np.nan)
    imagined = np.ones(4) * _EACH
    total = n + imagined.sum()
    top, bottom = ((m * n + (row * imagined).sum()) / total for m, row in zip(means, _IMAGINED, strict=True))
    each = top / bottom
    whole = each.mean(axis=0)

    def influence(a: Floats, b: Floats) -> Floats:
        part = (a - each[..., None] * b) / bottom[..., None]
        return np.asarray(part.mean(axis=0) / whole[..., None])

    real = influence(first, second)
    extra = influence(*(np.broadcast_to(row, (*each.shape, 4)) for row in _IMAGINED))
    squares = (real**2).sum(axis=-1) + (extra**2 * imagined).sum(axis=-1)
    return Ratio(value, np.log(whole), np.sqrt(squares) / total, n, real.astype(np.float32))


def ratio_of_amounts(above: npt.ArrayLike, below: npt.ArrayLike, level: float = LEVEL) -> Estimate:
    """Mean of an amount (a distance) relative to another's mean on the same images.

    The logarithm has Student's interval from each image's influence (delta method).

    Args:
        above: (..., I) amounts, at least 0, images last.
        below: the same of what they are relative to; axes of length 1 are repeated.
        level: confidence.

    Returns:
        Of shape (...). NaN where the other's mean is 0; limits are NaN of a single image, and where this mean is 0.

    >>> found = ratio_of_amounts([1.0, 2.0, 3.0, 3.0], [2.0, 3.0, 5.0, 8.0])
    >>> print(f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]")
    0.50 [0.30, 0.82]
    """
    first, second = np.broadcast_arrays(np.asarray(above, dtype=float), np.asarray(below, dtype=float))
    n = first.shape[-1]
    means = first.mean(axis=-1), second.mean(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(means[1] > 0, means[0] / means[1], np.nan)
        influence = first / means[0][..., None] - second / means[1][..., None]
        spread = np.sqrt((influence**2).sum(axis=-1) / (n * max(n - 1, 1)))
        half = (stdtrit(n - 1, (1 + level) / 2) if n > 1 else np.nan) * spread
        return Estimate(value, value * np.exp(-half), value * np.exp(half))


def mce_weights(
    conditions: Sequence[tuple[str, float]], reference: Mapping[str, Sequence[float]], benchmark: Sequence[str]
) -> tuple[Floats, float]:
    """What each condition counts in an mCE against a table of errors.

    Args:
        conditions: (corruption, severity) of each condition.
        reference: corruption -> error rates at severities 1-5.
        benchmark: the corruptions that mCE is the mean of; other conditions count 0.

    Returns:
        Weights (C,) and a scale: mCE in percent is the scale times the mean error with these weights, and a difference
        of mCEs is minus the scale times a paired difference of accuracies with them.

    Raises:
        ValueError: a corruption of the benchmark lacks a severity, or has one twice.
    """
    weights = np.zeros(len(conditions))
    for name in benchmark:
        at = [i for i, (corruption, _) in enumerate(conditions) if corruption == name]
        found = sorted(conditions[i][1] for i in at)
        if found != [1, 2, 3, 4, 5]:
            shown = ", ".join(f"{severity:g}" for severity in found) or "none"
            raise ValueError(f"mCE takes {name} at severities 1-5, each once; found: {shown}")
        weights[at] = 100 / (len(benchmark) * sum(reference[name]))
    return weights, float(weights.sum())
