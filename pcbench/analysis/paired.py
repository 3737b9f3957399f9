"""Paired differences of accuracies: two systems on the same images, at any number of timesteps and conditions at once.

One statistic gives interval, p-value and equivalence, so that they cannot contradict each other: the score statistic of
Tango 1998 (Statistics in Medicine 17, 891-908). At a difference of 0 it is McNemar's test (without its continuity
correction). Means over conditions enter by their effective number of images (`pcbench.analysis.images`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtrit

from pcbench.analysis.images import IMAGINARY, Floats, effective_number, normalised
from pcbench.analysis.means import Estimate
from pcbench.intervals import LEVEL

_HALVINGS = 52
Contributions = npt.NDArray[np.float32 | np.int8]


@dataclass(frozen=True)
class Paired:
    """Differences of accuracies, the first system's minus the second's, as fractions of images; any shape.

    Attributes:
        gained: share of outcomes that only the first has right.
        lost: share of outcomes that only the second has right.
        n: number of images.
        effective: the number of independent images that they are worth.
        few: parts of the variance that were estimated from few numbers (training seeds): for each its share of the
            variance, and its degrees of freedom.
        covers: the sources of variation that intervals cover.
        per_image: (..., I) what each image contributes, int8 for a single condition and else float32; empty where a
            correction over a family cannot be had.
    """

    gained: Floats
    lost: Floats
    n: int
    effective: Floats
    few: Sequence[tuple[Floats, int]] = ()
    covers: str = "images"
    per_image: Contributions = field(default_factory=lambda: np.empty(0, dtype=np.float32), repr=False)

    @property
    def difference(self) -> Floats:
        """The estimates, in [-1, 1]."""
        return np.asarray(self.gained - self.lost)

    @property
    def discordance(self) -> Floats:
        """Share of outcomes that one has right and the other wrong: what `pcbench.analysis.power` asks for."""
        return np.asarray(self.gained + self.lost)

    @property
    def design_effect(self) -> Floats:
        """Number of images over the number of independent ones that they are worth."""
        return np.asarray(self.n / self.effective)

    @property
    def size(self) -> int:
        """How many differences."""
        return self.difference.size

    @property
    def imagined(self) -> Floats:
        """What is no two tests' own, of the sum of squares of `per_image`: see `pcbench.analysis.families`."""
        return np.asarray(IMAGINARY * self.design_effect)

    def __getitem__(self, at: Any) -> "Paired":
        """Some of the differences, by any index of NumPy's: `found[1:]`, or `found[tested]` with truth values."""
        few = [(np.broadcast_to(share, self.difference.shape)[at], df) for share, df in self.few]
        each = self.per_image[at] if self.per_image.size else self.per_image
        return Paired(self.gained[at], self.lost[at], self.n, self.effective[at], few, self.covers, each)

    def statistic(self, null: npt.ArrayLike = 0.0) -> Floats:
        """How many standard errors the estimates lie above a supposed difference in [-1, 1]."""
        supposed = np.asarray(null, dtype=float)
        # The share lost that is likeliest if the difference is what is supposed: root of a quadratic (Tango 1998).
        b = (2 - self.gained + self.lost) * supposed - self.gained - self.lost
        lost = (np.sqrt(np.maximum(b**2 + 8 * self.lost * supposed * (1 - supposed), 0)) - b) / 4
        variance = np.maximum(2 * lost + supposed * (1 - supposed), 0) / self.effective
        above = self.difference - supposed
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(above == 0, 0.0, above / np.sqrt(variance)))

    def p(self, null: npt.ArrayLike = 0.0) -> Floats:
        """Two-sided p-values of a supposed difference."""
        return two_sided(self.statistic(null), self.few)

    def interval(self, level: float = LEVEL) -> Estimate:
        """Marginal intervals: each keeps the level by itself. One leaves out 0 exactly where p() < 1 - level.

        Simulated coverage at 95 %, of 20 to 1,000 images and accuracies from 0.05 to 0.99: 93.5 to 96.6 where at least
        5 images' worth of answers differ; up to 100 where fewer do, for the possible samples are then too few for any
        interval to keep 95 exactly.
        """
        if not 0 < level < 1:
            raise ValueError(f"a level of confidence lies between 0 and 1, not {level:g}")
        return self.within(reach((1 - level) / 2, self.few))

    def within(self, errors: npt.ArrayLike) -> Estimate:
        """All supposed differences from which the estimates are at most so many standard errors away."""
        most = np.broadcast_to(np.asarray(errors, dtype=float), self.difference.shape)
        shown = np.abs(self.statistic()) > most
        limits = []
        for side in (-1.0, 1.0):
            inside, outside = self.difference.copy(), np.full_like(self.difference, side)
            for _ in range(_HALVINGS):
                middle = (inside + outside) / 2
                far = np.abs(self.statistic(middle)) > most
                inside, outside = np.where(far, inside, middle), np.where(far, middle, outside)
            # Rounding must not move 0 to the other side of a limit than the p-value says.
            on_zero_side = side * self.difference < 0
            tiny = -side * np.finfo(float).tiny
            held = np.where(shown & (side * outside >= 0), tiny, outside)
            missed = np.where(~shown & (side * outside < 0), 0.0, outside)
            limits.append(np.where(on_zero_side, np.where(shown, held, missed), outside))
        return Estimate(self.difference, np.minimum(limits[0], self.difference), np.maximum(limits[1], self.difference))


def reach(tail: npt.ArrayLike, few: Sequence[tuple[Floats, int]] = ()) -> Floats:
    """How many standard errors leave so much probability beyond them, on one side.

    With parts of the variance from few numbers: the mean of the parts' quantiles, weighted by their shares (Cochran and
    Cox 1950, Experimental Designs, section 4.14), which never covers too little.
    """
    outside = np.asarray(tail, dtype=float)
    normal = -ndtri(outside)
    extra = np.zeros_like(normal)
    for share, df in few:
        extra = extra + share * (-stdtrit(df, outside) - normal)
    return np.asarray(normal + extra)


def two_sided(statistic: npt.ArrayLike, few: Sequence[tuple[Floats, int]] = ()) -> Floats:
    """p-values of a statistic whose quantiles are those of `reach`."""
    far = np.abs(np.asarray(statistic, dtype=float))
    alone = np.asarray(2 * ndtr(-far))
    if not few:
        return alone
    low, high = np.full(far.shape, -np.log(2) - 700), np.full(far.shape, -np.log(2))  # logarithms of one tail
    for _ in range(_HALVINGS + 8):
        middle = (low + high) / 2
        inside = reach(np.exp(middle), few) > far
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.asarray(np.where(np.isnan(far), np.nan, np.minimum(2 * np.exp((low + high) / 2), 1.0)))


def paired(first: npt.ArrayLike, second: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Paired:
    """Differences of two systems' mean accuracies over conditions, on the same images.

    Args:
        first: (C, ..., I) outcomes, bool: conditions first, images last, in the same order in both.
        second: the same of the other system; axes of length 1 are repeated (its one answer against each timestep).
        weights: (C,) what each condition counts; equal where None. For each condition by itself, `first[None]`.

    Returns:
        Of shape (...).

    Raises:
        ValueError: outcomes that are no truth values, or of shapes that do not fit.

    >>> first, second = np.zeros((1, 100), bool), np.zeros((1, 100), bool)
    >>> first[0, :30] = second[0, 20:40] = True
    >>> found = paired(first, second)
    >>> print(f"{found.difference:.2f}, p = {found.p():.4f}")
    0.10, p = 0.0679
    >>> limits = found.interval()
    >>> print(f"[{limits.low:.4f}, {limits.high:.4f}]")
    [-0.0077, 0.2082]
    """
    ours, theirs = np.asarray(first), np.asarray(second)
    if ours.dtype != bool or theirs.dtype != bool:
        raise ValueError(f"outcomes are truth values (bool), not {ours.dtype} and {theirs.dtype}")
    ours, theirs = np.broadcast_arrays(ours, theirs)
    if ours.ndim < 2 or 0 in (ours.shape[0], ours.shape[-1]):
        raise ValueError(f"outcomes of at least one condition and one image are needed, not an array {ours.shape}")
    n = ours.shape[-1]
    if len(ours) == 1:
        each = ours[0].astype(np.int8) - theirs[0].astype(np.int8)
        up, down = (each > 0).mean(axis=-1), (each < 0).mean(axis=-1)
        return Paired(up, down, n, np.full(up.shape, float(n)), per_image=each)
    total = np.zeros(ours.shape[1:])
    gained, lost = np.zeros(ours.shape[1:-1]), np.zeros(ours.shape[1:-1])
    # Counts stay whole where they can, so that equal systems differ by exactly 0.
    each_counts = np.ones(len(ours)) if weights is None else normalised(weights, len(ours)) * len(ours)
    for a, b, weight in zip(ours, theirs, each_counts, strict=True):
        total += weight * (a.astype(np.int8) - b.astype(np.int8))
        gained += weight * (a & ~b).sum(axis=-1)
        lost += weight * (b & ~a).sum(axis=-1)
    scale = 1 / len(ours)
    total *= scale
    gained, lost = gained * scale / n, lost * scale / n
    return from_images(total, gained, lost)


def stacked(found: Sequence[Paired]) -> Paired:
    """Differences of the same shape and images as one, along a new first axis; where only images vary."""
    gained, lost, effective = (
        np.stack([getattr(each, name) for each in found]) for name in ("gained", "lost", "effective")
    )
    return Paired(gained, lost, found[0].n, effective, per_image=np.stack([each.per_image for each in found]))


def from_images(per_image: Floats, gained: Floats, lost: Floats) -> Paired:
    """Differences of means over conditions from what each image contributes, (..., I), and the shares of each kind."""
    n = per_image.shape[-1]
    spread = per_image.var(axis=-1) * n / max(n - 1, 1)
    full = gained + lost - (gained - lost) ** 2
    return Paired(gained, lost, n, effective_number(spread, full, n), per_image=per_image.astype(np.float32))
