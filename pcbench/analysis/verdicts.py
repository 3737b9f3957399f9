"""Differences in words: better, worse, equivalent within a margin, or no difference shown. The only place that says so.

"No difference shown" is not "no difference": two systems are equivalent only where the data leave no room for a
difference as large as a stated margin (two one-sided tests: Schuirmann 1987, Journal of Pharmacokinetics and
Biopharmaceutics 15, 657-680). All of it comes from one statistic, so that interval, p-value and word agree.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pcbench.analysis.families import Family
from pcbench.analysis.images import Floats
from pcbench.analysis.means import Estimate
from pcbench.analysis.paired import Paired
from pcbench.intervals import LEVEL

Word = Literal["better", "worse", "equivalent", "no difference shown"]
SAME = "right on the same images"  # the verdict where nothing is asked, e.g. of t = 0 against the baseline


@dataclass(frozen=True)
class Judgement:
    """Paired differences and what they show, of any shape; fractions of images, the first system minus the second.

    Attributes:
        difference: with its marginal interval.
        p: marginal p-values of no difference.
        simultaneous: with intervals that hold together over the family; without a family, the marginal ones.
        p_corrected: p-values corrected over the family; without one, the marginal ones.
        p_equivalent: p-values of a difference of at least the margin, corrected like p_corrected; NaN without a margin.
        margin: within which two systems count as equivalent, in (0, 1); None where none was stated.
        family: what was corrected together; None where nothing was.
        covers: the sources of variation that intervals cover.
        level: of confidence.
    """

    difference: Estimate
    p: Floats
    simultaneous: Estimate
    p_corrected: Floats
    p_equivalent: Floats
    margin: float | None
    family: Family | None
    covers: str
    level: float

    @property
    def words(self) -> npt.NDArray[np.str_]:
        """A `Word` for each difference, judged over the family. A small difference that is shown is no equivalence."""
        alpha = round(1 - self.level, 12)  # 0.05, and not the double after it, which a p-value of 0.05 is below
        shown = self.p_corrected < alpha
        equivalent = self.p_equivalent < alpha  # False for NaN
        return np.where(
            shown,
            np.where(self.difference.value > 0, "better", "worse"),
            np.where(equivalent, "equivalent", "no difference shown"),
        )

    def __getitem__(self, at: Any) -> "Judgement":
        """Some of the judgements, by any index of NumPy's."""
        return replace(
            self,
            difference=_at(self.difference, at),
            p=np.asarray(self.p[at]),
            simultaneous=_at(self.simultaneous, at),
            p_corrected=np.asarray(self.p_corrected[at]),
            p_equivalent=np.asarray(self.p_equivalent[at]),
        )

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        """Whether a difference is shown, judged over the family."""
        return np.isin(self.words, ("better", "worse"))

    def sentence(self, at: tuple[int, ...] | int = (), where: str = "") -> str:
        """One difference in words, effect first, in points (percent of images).

        Args:
            at: index of the difference.
            where: "at t = 3 under fog", or nothing.
        """
        word = str(self.words[at])
        sign = -100 if word == "worse" else 100
        ends = sorted(sign * float(limit[at]) for limit in (self.simultaneous.low, self.simultaneous.high))
        effect = f"{_points(sign * float(self.difference.value[at]))} points [{_points(ends[0])}, {_points(ends[1])}]"
        place = f" {where}" if where else ""
        p = float(self.p_corrected[at])
        kind = "p" if self.family is None or self.family.size == 1 else "corrected p"
        sure = f"{kind} < 0.001" if p < 0.001 else f"{kind} = {p:.2g}"
        if word in ("better", "worse"):
            within = self.margin is not None and bool(self.p_equivalent[at] < round(1 - self.level, 12))
            small = f", yet within the margin of {100 * (self.margin or 0):g}" if within else ""
            return f"{word}{place} by {effect}{small}, {sure}"
        if word == "equivalent":
            return f"equivalent within {100 * (self.margin or 0):g} points{place}: {effect}, {sure}"
        return f"{word}{place}: {effect}, {sure}"


def judge(found: Paired, family: Family | None = None, margin: float | None = None, level: float = LEVEL) -> Judgement:
    """What paired differences show.

    Args:
        found: the differences.
        family: what they are corrected with; it contains them.
        margin: of equivalence, a fraction of images (0.01 for one point).
        level: of confidence.

    Raises:
        ValueError: a margin outside (0, 1).

    >>> from pcbench.analysis.paired import paired
    >>> first = np.zeros((1, 200), bool)
    >>> first[0, :150] = True
    >>> second = np.roll(first, 30, axis=1)
    >>> judge(paired(first, second), margin=0.1).sentence(where="under fog")
    'equivalent within 10 points under fog: 0.0 points [-7.7, 7.7], p = 1'
    """
    if margin is not None and not 0 < margin < 1:
        raise ValueError(f"a margin of equivalence is a fraction of images in (0, 1), not {margin:g}")
    p = found.p()
    # One-sided by itself; over a family two-sided, so that the simultaneous interval decides: it lies inside or not.
    outside = np.full_like(p, np.nan) if margin is None else _beyond(found, margin)
    if family is None:
        marginal = found.interval(level)
        return Judgement(marginal, p, marginal, p, outside, margin, None, found.covers, level)
    return Judgement(
        found.interval(level),
        p,
        found.interval(family.marginal_level(level)),
        family.p(p),
        family.p(np.minimum(2 * outside, 1)),
        margin,
        family,
        found.covers,
        level,
    )


def _beyond(found: Paired, margin: float) -> Floats:
    """The larger p-value of the two one-sided tests: that the difference is below -margin, and that it is above it."""
    tails = []
    for null, side in ((-margin, 1), (margin, -1)):
        towards = side * found.statistic(null) > 0
        p = found.p(null) / 2
        tails.append(np.where(towards, p, 1 - p))
    return np.asarray(np.maximum(*tails))


def _at(estimate: Estimate, at: Any) -> Estimate:
    return Estimate(*(np.asarray(each[at]) for each in (estimate.value, estimate.low, estimate.high)))


def _points(points: float) -> str:
    """Points with one decimal, or two where one would hide that there is something."""
    digits = 1 if abs(points) >= 0.05 or abs(points) < 0.005 else 2
    text = f"{points:.{digits}f}"
    return text[1:] if text.startswith("-") and float(text) == 0 else text
