"""A transposed convolution seen from the grid of its input: one ordinary correlation for each phase of its output.

In one direction, a transposed convolution of kernel k, stride s, padding p and dilation d puts input i under tap a at
output s i + d a - p. So the outputs o with o + p = s j + phase, for j = first .. last, are

    out[s j + phase - p] = sum over the taps of that phase of kernel[tap] u[j - offset],    offset = (d tap - phase) / s

with u zero outside its grid. Taps of different phases are disjoint, so the phases are separate regressions.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """One phase in one direction.

    Attributes:
        number: 0 .. stride - 1.
        taps: positions in the kernel.
        offsets: one for each tap, >= 0.
        first, last: positions j; there are none where last < first.
    """

    number: int
    taps: tuple[int, ...]
    offsets: tuple[int, ...]
    first: int
    last: int

    @property
    def form(self) -> tuple[tuple[int, ...], int, int]:
        """What the windows of a phase depend on: phases of one form see the same windows."""
        return self.offsets, self.first, self.last


@dataclass(frozen=True)
class Axis:
    """One direction of a transposed convolution.

    Attributes:
        size: of the input.
        stride, padding: of the convolution.
        phases: those that have outputs.
        reach: the largest offset.
        low, high: how many places at either end of the input lie in a window of a position before the first, or after
            the last: what is cropped away, and has to be taken off sums over all positions.
    """

    size: int
    stride: int
    padding: int
    phases: tuple[Phase, ...]
    reach: int
    low: int
    high: int

    @classmethod
    def of(cls, size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> "Axis":
        """The direction of a transposed convolution from `size` to `outputs` places."""
        phases = []
        for number in range(stride):
            taps = tuple(tap for tap in range(kernel) if (dilation * tap - number) % stride == 0)
            first, last = -((number - padding) // stride), (outputs - 1 + padding - number) // stride
            if last >= first:
                offsets = tuple((dilation * tap - number) // stride for tap in taps)
                phases.append(Phase(number, taps, offsets, first, last))
        reach = max((offset for phase in phases for offset in phase.offsets), default=0)
        low = max(min(phase.first, size) for phase in phases)
        high = max(min(size - 1 - phase.last + max(phase.offsets, default=0), size) for phase in phases)
        return cls(size, stride, padding, tuple(phases), reach, max(low, 0), max(high, 0))

    @property
    def length(self) -> int:
        """Of the grid of positions at which some window sees the input."""
        return self.size + self.reach

    def outputs(self, phase: Phase) -> slice:
        """Which outputs are those of a phase, at positions on the grid (`positions`)."""
        begin = self.stride * phase.first + phase.number - self.padding
        return slice(begin, begin + self.stride * (self.positions(phase).stop - phase.first), self.stride)

    def positions(self, phase: Phase) -> slice:
        """The positions of a phase at which its windows can see the input."""
        return slice(phase.first, max(phase.first, min(phase.last + 1, self.length)))

    def cells(self, part: str, phase: Phase, offset: int, other: int) -> list[tuple[int, int]]:
        """Which moments of a part make up sum_j u[j - offset] u[j - other] over positions j that the part leaves out.

        Args:
            part: "all" positions, those "low" before the first, or those "high" after the last.
            phase: whose positions.
            offset: of one tap of the phase.
            other: of another.

        Returns:
            For "all" one pair (0, lag), for sum_i u[i] u[i + lag]; else pairs (i, i + lag) of places in the input,
            counted from the beginning of the strip of `low` or `high` places.
        """
        lag = offset - other
        match part:
            case "all":
                return [(0, lag)]
            case "low":
                inside = range(max(0, -lag), min(phase.first - offset, self.size, self.size - lag))
                return [(i, i + lag) for i in inside]
            case _:
                begin = self.size - self.high
                inside = range(max(0, -lag, phase.last + 1 - offset), min(self.size, self.size - lag))
                return [(i - begin, i + lag - begin) for i in inside]

    def strip(self, part: str) -> slice:
        """The places of the input that a part's moments are of."""
        return {"all": slice(None), "low": slice(0, self.low), "high": slice(self.size - self.high, self.size)}[part]

    def window(self, phase: Phase, offset: int) -> slice:
        """The places of the input that a tap sees as j goes over the positions of a phase."""
        return slice(max(0, phase.first - offset), max(0, min(self.size, phase.last + 1 - offset)))
