"""Recurrent cells: one step of a layer's memory, as published by Nayebi et al. and in the order of their equations.

Notation in the docstrings: x the node's convolution output at this step, h and c the states of the step before, W * x a
convolution that keeps the size, s the logistic function, . the product of elements. All states start at 0.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcbench.errors import UserError, did_you_mean
from pcbench.models.convrnn.layers import (
    Conv2d,
    SameConv2d,
    SeparableConv2d,
    glorot,
    initialise_all,
    layer_norm,
    variance_scaling,
)

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class CellShape:
    """What a cell is built for.

    Attributes:
        node: its name, for messages.
        x: channels of the node's convolution output.
        channels: of the cell's output.
        source: channels of the node's own input, before its convolution.
        feedback: channels of the feedback, all of it; 0 for none.
        size: (height, width) of the map.
        width: the network's factor on channels, for state that the graph does not name.
    """

    node: str
    x: int
    channels: int
    source: int
    feedback: int
    size: tuple[int, int]
    width: float = 1.0


class Cell(nn.Module):
    """One step: forward(x, state, source, feedback) -> (output, state).

    Attributes:
        states: channels of each state; every state has the size of the map.
        takes_feedback: whether feedback enters in the cell; otherwise the node's convolution sees it.
        pre_activation: whether x comes rectified (ELU) in a graph that leaves this to the cell.
        sees_input: whether the node's input enters besides x; it must then have the size of x.
        memory: whether there is a state at all.
    """

    memory = True
    takes_feedback = False
    sees_input = False
    pre_activation = False

    def __init__(self, shape: CellShape) -> None:
        super().__init__()
        self.shape = shape
        self.states: tuple[int, ...] = (shape.channels,)

    def start(self, size: tuple[int, int], like: Tensor) -> State:
        """The states before the first step: zeros, batch 1."""
        return tuple(like.new_zeros(1, channels, *size) for channels in self.states)

    @abstractmethod
    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step.

        Args:
            x: (B, shape.x, H, W), the node's convolution output.
            state: (B or 1, channels, H, W) each.
            source: (B, shape.source, H, W), the node's input before its convolution.
            feedback: (B, shape.feedback, H, W) for a cell that takes feedback and has some.
        """

    def require_equal_depth(self) -> None:
        """For cells in which x and the state mix without a kernel between. Raises UserError."""
        if self.shape.x != self.shape.channels:
            raise UserError(
                f"node {self.shape.node!r}: {type(self).__name__} expects {self.shape.channels} channels from the "
                f"node's convolution, found {self.shape.x}"
            )


class Feedforward(Cell):
    """No memory: the output is x, which comes rectified. The control for all the others."""

    memory = False
    pre_activation = True

    def __init__(self, shape: CellShape) -> None:
        super().__init__(shape)
        self.require_equal_depth()
        self.states = ()

    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step; see Cell."""
        return x, ()


class TimeDecay(Cell):
    """h' = x + tau h; output h'. One trainable scalar, 0 at the start."""

    def __init__(self, shape: CellShape) -> None:
        super().__init__(shape)
        self.require_equal_depth()
        self.tau = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step; see Cell."""
        h = x + self.tau * state[0]
        return h, (h,)


class SimpleRNN(Cell):
    """h' = ELU(LN(Wx * x + bx + Ws * h + bs)); output h'. The layer normalisation is optional."""

    def __init__(self, shape: CellShape, kernel: int = 3, normalise: bool = False) -> None:
        super().__init__(shape)
        self.from_x = SameConv2d(shape.x, shape.channels, kernel)
        self.from_h = SameConv2d(shape.channels, shape.channels, kernel)
        self.norm = layer_norm(shape.channels) if normalise else nn.Identity()
        initialise_all(self, glorot)

    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step; see Cell."""
        h = F.elu(self.norm(self.from_x(x) + self.from_h(state[0])))
        return h, (h,)


class GRU(Cell):
    """[r, u] = W * [x, h] + b, r = s(r + 1), u = s(u); c = tanh(Wc * [x, r.h] + bc); h' = u.h + (1 - u).c; output h'.

    The gates' biases start at 1.
    """

    def __init__(self, shape: CellShape, kernel: int = 3) -> None:
        super().__init__(shape)
        self.gates = SameConv2d(shape.x + shape.channels, 2 * shape.channels, kernel)
        self.candidate = SameConv2d(shape.x + shape.channels, shape.channels, kernel)
        initialise_all(self, glorot)
        nn.init.ones_(_bias(self.gates))

    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step; see Cell."""
        (h,) = state
        r, u = self.gates(_beside(x, h)).chunk(2, dim=1)
        r, u = torch.sigmoid(r + 1), torch.sigmoid(u)
        c = torch.tanh(self.candidate(_beside(x, r * h)))
        h = u * h + (1 - u) * c
        return h, (h,)


class LSTM(Cell):
    """[i, j, f, o] = W * [x, h] + b; c' = c.s(f + fb) + s(i).tanh(j); h' = tanh(c').s(o); output h'.

    Args:
        shape: see Cell.
        kernel: of W.
        forget_bias: fb.
        bias: initial value of b.
        normalise: layer normalisation of i, j, f, o and c'.
        peepholes: weights for each unit by which i, f and o also see c (the old one, all three).
        scale: of the variance-scaling initialisation of W; None for Glorot's.
    """

    def __init__(
        self,
        shape: CellShape,
        kernel: int = 3,
        forget_bias: float = 1.0,
        bias: float = 0.0,
        normalise: bool = False,
        peepholes: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__(shape)
        self.states = (shape.channels, shape.channels)  # c, h
        self.gates = SameConv2d(shape.x + shape.channels, 4 * shape.channels, kernel)
        self.forget_bias = forget_bias
        self.norms = nn.ModuleList(layer_norm(shape.channels) if normalise else nn.Identity() for _ in range(5))
        self.peepholes = nn.Parameter(torch.zeros(3, shape.channels, *shape.size)) if peepholes else None
        initialise_all(self, glorot if scale is None else variance_scaling(scale))
        nn.init.constant_(_bias(self.gates), bias)
        if self.peepholes is not None:
            nn.init.xavier_uniform_(self.peepholes)

    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step; see Cell."""
        c, h = state
        parts = self.gates(_beside(x, h)).chunk(4, dim=1)
        i, j, f, o = (norm(part) for norm, part in zip(self.norms, parts, strict=False))
        if self.peepholes is not None:
            if c.shape[-2:] != self.peepholes.shape[-2:]:
                raise UserError(
                    f"node {self.shape.node!r}: its peepholes belong to a map of {self.shape.size[0]} x "
                    f"{self.shape.size[1]}, found {c.shape[-2]} x {c.shape[-1]}; use the network's own image size"
                )
            i, f, o = i + self.peepholes[0] * c, f + self.peepholes[1] * c, o + self.peepholes[2] * c
        c = c * torch.sigmoid(f + self.forget_bias) + torch.sigmoid(i) * torch.tanh(j)
        c = self.norms[4](c)
        h = torch.tanh(c) * torch.sigmoid(o)
        return h, (c, h)


class UGRNN(Cell):
    """[g, c] = W * [x, h] + b; g = s(g + 1), c = tanh(c); h' = g.h + (1 - g).c; output h'."""

    def __init__(self, shape: CellShape, kernel: int = 3) -> None:
        super().__init__(shape)
        self.gates = SameConv2d(shape.x + shape.channels, 2 * shape.channels, kernel)
        initialise_all(self, glorot)

    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step; see Cell."""
        (h,) = state
        g, c = self.gates(_beside(x, h)).chunk(2, dim=1)
        g = torch.sigmoid(g + 1)
        h = g * h + (1 - g) * torch.tanh(c)
        return h, (h,)


class IntersectionRNN(Cell):
    """[gh, h~, gy, y~] = W * [x, h] + b, gh = s(gh + 1), gy = s(gy + 1); h' = gh.h + (1 - gh).tanh(h~).

    The output is not the state but y = gy.x + (1 - gy).ReLU(y~), so that x can bypass the layer.
    """

    def __init__(self, shape: CellShape, kernel: int = 3) -> None:
        super().__init__(shape)
        self.require_equal_depth()
        self.gates = SameConv2d(shape.x + shape.channels, 4 * shape.channels, kernel)
        initialise_all(self, glorot)

    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step; see Cell."""
        (h,) = state
        gh, new, gy, y = self.gates(_beside(x, h)).chunk(4, dim=1)
        gh, gy = torch.sigmoid(gh + 1), torch.sigmoid(gy + 1)
        h = gh * h + (1 - gh) * torch.tanh(new)
        return gy * x + (1 - gy) * F.relu(y), (h,)


class ReciprocalGated(Cell):
    """The reciprocal gated cell of the shallow networks; x comes rectified, r is the node's input; no biases.

    c' = ELU[(1 - s(Wcc * c)).c + (1 - s(Whc * h)).(Wxc * x)]
    h' = ELU[(1 - s(Whh * h)).h + (1 - s(Wch * c + Wrh * r)).x]; output h'. Both see the old c and h.
    """

    pre_activation = True
    sees_input = True

    def __init__(self, shape: CellShape, kernel: int = 3) -> None:
        super().__init__(shape)
        self.require_equal_depth()
        self.states = (shape.channels, shape.channels)  # c, h
        self.cc, self.hc, self.xc, self.hh, self.ch = (
            SameConv2d(shape.channels, shape.channels, kernel, bias=False) for _ in range(5)
        )
        self.rh = SameConv2d(shape.source, shape.channels, kernel, bias=False)
        initialise_all(self, glorot)

    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step; see Cell."""
        c, h = state
        new_c = F.elu((1 - torch.sigmoid(self.cc(c))) * c + (1 - torch.sigmoid(self.hc(h))) * self.xc(x))
        gate = 1 - torch.sigmoid(self.ch(c) + self.rh(source))
        new_h = F.elu((1 - torch.sigmoid(self.hh(h))) * h + gate * x)
        return new_h, (new_c, new_h)


class MedianReciprocalGated(Cell):
    """The reciprocal gated cell of the "median" model, the best of a large search; D(.) are separable 7 x 7 kernels.

    c' = ELU[A (1 - s(D(c))).c + B (1 - tanh(D(h))).(W2x2 * x + b)]
    o  = W3x3 * x + b + R(r) + (W1x1 * feedback + b)
    h' = ELU[A (1 - s(D(h))).h + B (1 - tanh(D(c))).o]; output h'. Both see the old c and h.

    x comes rectified; r is the node's input, R the identity or, where the channels differ, a 1 x 1 kernel without bias.

    Args:
        shape: see Cell.
        depth: channels of c at width 1.
        kernel: of D; clipped to the size of the map.
    """

    takes_feedback = True
    pre_activation = True
    sees_input = True
    RETAIN = 0.9219348064  # A
    GATE = 0.7006566685  # B

    def __init__(self, shape: CellShape, depth: int = 64, kernel: int = 7) -> None:
        super().__init__(shape)
        depth = max(1, round(depth * shape.width))
        self.states = (depth, shape.channels)  # c, h
        kernel = min(kernel, *shape.size)
        self.retain_c = SeparableConv2d(depth, depth, kernel)
        self.gate_c = SeparableConv2d(shape.channels, depth, kernel)
        self.retain_h = SeparableConv2d(shape.channels, shape.channels, kernel)
        self.gate_h = SeparableConv2d(depth, shape.channels, kernel)
        self.to_c = SameConv2d(shape.x, depth, 2)
        self.to_h = SameConv2d(shape.x, shape.channels, 3)
        self.skip = (
            nn.Identity() if shape.source == shape.channels else SameConv2d(shape.source, shape.channels, 1, bias=False)
        )
        self.from_feedback = SameConv2d(shape.feedback, shape.channels, 1) if shape.feedback else None
        initialise_all(self, variance_scaling(0.6393))

    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step; see Cell."""
        c, h = state
        into_h = self.to_h(x) + self.skip(source)
        if self.from_feedback is not None:
            into_h = into_h + self.from_feedback(feedback)
        new_c = F.elu(
            self.RETAIN * (1 - torch.sigmoid(self.retain_c(c))) * c
            + self.GATE * (1 - torch.tanh(self.gate_c(h))) * self.to_c(x)
        )
        new_h = F.elu(
            self.RETAIN * (1 - torch.sigmoid(self.retain_h(h))) * h
            + self.GATE * (1 - torch.tanh(self.gate_h(c))) * into_h
        )
        return new_h, (new_c, new_h)


class CORnetRT(Cell):
    """h' = ReLU(GN(W * (x + h) + b)); output h'. x comes normalised and rectified (CORnet-RT's description)."""

    def __init__(self, shape: CellShape, kernel: int = 3, groups: int = 32) -> None:
        super().__init__(shape)
        self.require_equal_depth()
        self.conv = Conv2d(shape.channels, shape.channels, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(_groups(groups, shape.channels), shape.channels)

    def forward(self, x: Tensor, state: State, source: Tensor, feedback: Tensor | None) -> tuple[Tensor, State]:
        """One step; see Cell."""
        h = F.relu(self.norm(self.conv(x + state[0])))
        return h, (h,)


CELLS: Mapping[str, type[Cell]] = {
    "feedforward": Feedforward,
    "timedecay": TimeDecay,
    "simplernn": SimpleRNN,
    "gru": GRU,
    "lstm": LSTM,
    "ugrnn": UGRNN,
    "intersectionrnn": IntersectionRNN,
    "rgc": ReciprocalGated,
    "rgc-median": MedianReciprocalGated,
    "cornet-rt": CORnetRT,
}


def cell_class(name: str) -> type[Cell]:
    """The cell of that name. Raises UserError with the closest known names."""
    if name not in CELLS:
        raise UserError(f"no cell {name!r}; {did_you_mean(name, CELLS)}")
    return CELLS[name]


def _beside(x: Tensor, h: Tensor) -> Tensor:
    """[x, h] along the channels; a state of batch 1 belongs to every image."""
    return torch.cat([x, h.expand(x.shape[0], -1, -1, -1)], dim=1)


def _bias(layer: nn.Conv2d) -> Tensor:
    return cast("Tensor", layer.bias)


def _groups(wanted: int, channels: int) -> int:
    """The largest number of groups up to `wanted` that divides the channels."""
    return max(count for count in range(1, wanted + 1) if channels % count == 0)
