"""How sure is that: intervals, paired tests, correction for many tests, and a verdict in words.

The same images recur in every condition and at every timestep. So the image is the unit: the bootstrap draws images,
and the tests are paired by image. All functions take and return arrays; one call does all the cells of a run.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from pcbench.intervals import LEVEL

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

REPLICATES = 10_000
_CHUNK = 1 << 24  # elements of a block of resampling counts: 64 MB


def mcnemar(better: npt.ArrayLike, worse: npt.ArrayLike) -> Floats:
    """McNemar's exact test, two-sided: p-values of the counts of discordant pairs.

    Args:
        better: images that only the first classifies correctly, any shape.
        worse: images that only the second classifies correctly.

    Returns:
        p-values; 1 where no pair is discordant.

    >>> print(f"{mcnemar(8, 1):.4f}")
    0.0391
    """
    a, b = np.asarray(better), np.asarray(worse)
    return np.asarray(np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(a, b), a + b, 0.5)))


def sign_flip(differences: npt.ArrayLike) -> Floats:
    """Fisher's exact randomisation test of paired differences: McNemar's test for several conditions at once.

    If two classifiers do not differ, each image's sum of differences could as well have had the other sign, all its
    conditions together. The p-value is the probability that signs drawn at random give a total at least as far from
    zero as the one that was seen. With one condition (differences -1, 0, 1) this is McNemar's exact test.

    The distribution of the total is the product over images of (z^d + z^-d) / 2, which is computed exactly: its
    Fourier transform is prod_k cos(k w)^(number of images with |d| = k).

    Args:
        differences: (I,) or (I, M) integers: for each image, the number of conditions in which the first is right
            and the second wrong, minus the converse.

    Returns:
        () or (M,) p-values, two-sided; 1 where all differences are 0. Not below 1e-12, the precision of the sums.

    Raises:
        ValueError: the differences are not integers.

    >>> print(f"{sign_flip([1] * 8 + [-1] + [0] * 20):.4f}")  # McNemar's of 8 against 1
    0.0391
    """
    given = np.asarray(differences)
    whole = np.rint(given).astype(np.int64)
    if not np.allclose(given, whole, atol=1e-6):
        raise ValueError("sign_flip takes integer differences: counts of conditions, not their mean")
    columns = whole.reshape(len(whole), -1)
    p = np.array([_sign_flip(column) for column in columns.T])
    return p.reshape(given.shape[1:])


def _sign_flip(differences: Counts) -> float:
    sizes = np.abs(differences)
    counts = np.bincount(sizes)
    total, reach = abs(int(differences.sum())), int(sizes.sum())
    if total == 0:
        return 1.0
    points = 1 << int(2 * reach + 1).bit_length()
    transform = np.ones(points // 2 + 1)
    alive = np.arange(len(transform))  # where the product is not yet nothing: soon only near 0 and pi
    for size in np.flatnonzero(counts[1:]) + 1:
        transform[alive] *= np.cos(2 * np.pi / points * size * alive) ** counts[size]
        dead = np.abs(transform[alive]) < 1e-30
        transform[alive[dead]] = 0
        alive = alive[~dead]
    chance = np.fft.irfft(transform, points)  # of totals 0 .. reach; negative totals are the mirror image
    return float(np.clip(2 * chance[total : reach + 1].sum(), 1e-12, 1.0))


def bootstrap(values: npt.ArrayLike, replicates: int = REPLICATES, seed: int = 0) -> npt.NDArray[np.float32]:
    """Means over images, for resamples of the images: the same resample for every column.

    Args:
        values: (I, M): for each image, M quantities (accuracies of timesteps, perturbations, models ...). What is put
            side by side in one call is resampled together, so that differences and ratios of columns are paired.
        replicates: R, the number of resamples.
        seed: of the resampling. Equal seeds and I give equal resamples.

    Returns:
        (R, M).
    """
    table = np.ascontiguousarray(values, dtype=np.float32)
    n = len(table)
    generator = np.random.default_rng(seed)
    means = np.empty((replicates, table.shape[1]), dtype=np.float32)
    step = max(1, _CHUNK // n)
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        drawn = generator.integers(0, n, size=(rows, n), dtype=np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n).astype(np.float32).reshape(rows, n)
        means[start : start + rows] = counts @ table / n
    return means


def interval(replicates: npt.NDArray[np.floating], level: float = LEVEL) -> tuple[Floats, Floats]:
    """The percentile interval of bootstrap replicates (R, ...): (low, high)."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(low, dtype=float), np.asarray(high, dtype=float)


def paired_interval(
    gained: npt.ArrayLike, lost: npt.ArrayLike, n: int, replicates: int = 2000, seed: int = 0
) -> tuple[Floats, Floats]:
    """The bootstrap interval of a paired difference of two accuracies in one condition.

    There, resampling images is drawing from three kinds: gained, lost, and no difference; so no images are needed.

    Args:
        gained: images that only the first classifies correctly, any shape.
        lost: images that only the second classifies correctly.
        n: number of images.
        replicates: number of draws.
        seed: of the draws.

    Returns:
        (low, high) of (gained - lost) / n.
    """
    a, b = np.asarray(gained), np.asarray(lost)
    chances = np.stack([a, b, n - a - b], axis=-1) / n
    drawn = np.random.default_rng(seed).multinomial(n, chances, size=(replicates, *a.shape))
    return interval((drawn[..., 0] - drawn[..., 1]) / n)


def bootstrap_p(replicates: npt.NDArray[np.floating], null: float = 0.0) -> Floats:
    """Two-sided p-values from bootstrap replicates (R, ...) of a difference: how often it falls beyond `null`.

    For what has no exact test (mCE). The smallest possible value is 2 / (R + 1).
    """
    n = len(replicates)
    below = ((replicates <= null).sum(axis=0) + 1) / (n + 1)
    above = ((replicates >= null).sum(axis=0) + 1) / (n + 1)
    return np.asarray(np.minimum(1.0, 2 * np.minimum(below, above)))


def holm(p: npt.ArrayLike) -> Floats:
    """p-values corrected for their number (Holm's step-down method), in the same shape.

    >>> [round(float(x), 3) for x in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    raw = np.asarray(p, dtype=float)
    order = np.argsort(raw, axis=None)
    ordered = raw.ravel()[order]
    stepped = np.maximum.accumulate(ordered * np.arange(raw.size, 0, -1))
    corrected = np.empty(raw.size)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.reshape(raw.shape)


@dataclass(frozen=True)
class Difference:
    """A paired difference of accuracies, in points (percent of images).

    Attributes:
        points: the first minus the second: above 0 where the first is better.
        low, high: its interval.
        p: p-value, corrected for the family it belongs to.
    """

    points: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.p < 1 - LEVEL

    def verdict(self, where: str = "") -> str:
        """The answer in words, effect first.

        >>> Difference(1.8, 1.1, 2.6, 0.003).verdict("at t = 4")
        'better at t = 4 by 1.8 points [1.1, 2.6], corrected p = 0.003'
        >>> Difference(0.1, -0.4, 0.6, 0.8).verdict("at t = 4")
        'no difference shown at t = 4: 0.1 points [-0.4, 0.6], corrected p = 0.8'
        """
        place = f" {where}" if where else ""
        if not self.significant:
            return f"no difference shown{place}: {self._effect(self.points)} points {self._range()}, {self._p()}"
        if self.points > 0:
            return f"better{place} by {self._effect(self.points)} points {self._range()}, {self._p()}"
        return (
            f"worse{place} by {self._effect(-self.points)} points [{self._effect(-self.high)}, "
            f"{self._effect(-self.low)}], {self._p()}"
        )

    def _range(self) -> str:
        return f"[{self._effect(self.low)}, {self._effect(self.high)}]"

    @staticmethod
    def _effect(points: float) -> str:
        digits = 1 if abs(points) >= 0.05 or points == 0 else 2  # a difference of one image in 5,000 is 0.02 points
        return f"{points:.{digits}f}".replace("-0.00", "0.00") if round(points, digits) else f"{0:.1f}"

    def _p(self) -> str:
        return "corrected p < 0.001" if self.p < 0.001 else f"corrected p = {self.p:.2g}"
