"""Families of tests: which differences are judged together, and what that does to intervals and p-values.

Of many intervals at 95 %, some miss. Simultaneous intervals are wide enough that all of a family hold together with
95 %. They are the marginal ones at a higher level, which follows from the distribution of the largest of the family's
statistics (single-step max-t: Westfall and Young 1993; Hothorn, Bretz and Westfall 2008, Biometrical Journal 50,
346-363). Statistics of the same images are strongly correlated, so this asks for less than Bonferroni does. The
corrected p-value is the probability of so large a maximum: it is below 0.05 exactly where the simultaneous interval
leaves out 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from pcbench.analysis.images import Floats
from pcbench.intervals import LEVEL

DRAWS = 9_999
_AT_ONCE = 4096  # images: bounds the memory of a block in double precision
_DRAWN = 1024  # draws: likewise


@dataclass(frozen=True)
class Family:
    """The tests that are corrected together. Printed with each table that shows corrected numbers.

    Attributes:
        contains: what, in words: "75 conditions x 11 timesteps of pvgg16 against vgg16".
        size: the number of tests.
        maxima: the largest |statistic| of all tests if nothing differs, as drawn, in descending order.
    """

    contains: str
    size: int
    maxima: Floats = field(repr=False, compare=False)

    def __str__(self) -> str:
        """The family as a table's note says it."""
        tests = "1 test" if self.size == 1 else f"{self.size} tests"
        how = "" if self.size == 1 else ", corrected together by their largest statistic (max-t over images)"
        return f"{tests}: {self.contains}{how}"

    def p(self, marginal: npt.ArrayLike) -> Floats:
        """Corrected p-values.

        Args:
            marginal: the p-values that each test has by itself, two-sided, any shape.

        Returns:
            Never below the marginal, never above what independent tests would have (Sidak).
        """
        alone = np.asarray(marginal, dtype=float)
        statistic = -ndtri(alone / 2)
        as_large = len(self.maxima) - np.searchsorted(self.maxima[::-1], statistic, side="left")
        drawn = (as_large + 1) / (len(self.maxima) + 1)
        independent = -np.expm1(self.size * np.log1p(-np.minimum(alone, 1 - 1e-16)))
        return np.asarray(np.where(np.isnan(alone), np.nan, np.clip(drawn, alone, np.maximum(independent, alone))))

    def marginal_level(self, level: float = LEVEL) -> float:
        """The level at which marginal intervals hold together at `level`."""
        # p() is below 1 - level for statistics beyond this one of the maxima: the two must agree.
        rank = int(np.ceil(round((1 - level) * (len(self.maxima) + 1), 9))) - 1
        alone = 2 * NormalDist().cdf(-float(self.maxima[rank - 1])) if rank >= 1 else 0.0
        independent = -np.expm1(np.log(level) / self.size)
        return float(1 - np.clip(alone, independent, 1 - level))


class OfImages(Protocol):
    """What a family is made of: differences (`pcbench.analysis.paired`) or ratios (`pcbench.analysis.ratios`)."""

    @property
    def n(self) -> int:
        """Number of images."""

    @property
    def size(self) -> int:
        """Number of tests."""

    @property
    def per_image(self) -> npt.NDArray[np.float32 | np.int8]:
        """(..., I) what each image contributes to each estimate; empty where that is not known."""

    @property
    def imagined(self) -> Floats:
        """(...) sums of squares of imaginary images, which no two tests share."""


def family(contains: str, blocks: Sequence[Sequence[OfImages]], draws: int = DRAWS, seed: int = 0) -> Family:
    """The family of some differences.

    Args:
        contains: what it contains, in words.
        blocks: differences of any shapes. Those of a block share their images, in the same order; different blocks
            (data sets, runs) are taken as independent, which never corrects too little.
        draws: of the largest statistic.
        seed: of the draws.

    Raises:
        ValueError: no differences, or a block of different numbers of images.
    """
    size = sum(each.size for block in blocks for each in block)
    if size == 0:
        raise ValueError("a family has at least one test")
    generator = np.random.default_rng(seed)
    largest = np.zeros(draws)
    for block in blocks:
        if not any(each.size for each in block):
            continue
        factor = np.linalg.cholesky(_correlations(block))
        for start in range(0, draws, _DRAWN):
            some = largest[start : start + _DRAWN]
            statistics = np.abs(generator.standard_normal((len(some), len(factor))) @ factor.T)
            np.maximum(some, statistics.max(axis=1), out=some)
    return Family(contains, size, np.sort(largest)[::-1])


def _correlations(block: Sequence[OfImages]) -> Floats:
    """Correlations of the statistics of one block: positive definite, for imaginary images are no two tests' own."""
    if len({each.n for each in block}) > 1:
        raise ValueError(f"differences of one block share their images: {sorted({each.n for each in block})} images")
    n = block[0].n
    rows = [
        each.per_image.reshape(-1, n) if each.per_image.size else np.zeros((each.size, n), dtype=np.float32)
        for each in block
    ]
    own = np.concatenate([each.imagined.ravel() for each in block])
    centre = np.concatenate([each.mean(axis=1, dtype=np.float64) for each in rows])[:, None]
    gram = np.zeros((len(centre), len(centre)))
    for start in range(0, n, _AT_ONCE):
        part = np.concatenate([each[:, start : start + _AT_ONCE] for each in rows]) - centre
        gram += part @ part.T
    gram[np.diag_indices_from(gram)] += own
    scale = 1 / np.sqrt(np.diag(gram))
    return np.asarray(gram * scale[:, None] * scale)
