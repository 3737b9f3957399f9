"""The network of a graph, unrolled over time.

Steps and timesteps: at step 0 the entry node sees the image while all others see zeros; each edge costs its delay. The
image reaches the readout at step `graph.first_readout`, and this is timestep t = 0; the image stays on.

Nothing is computed twice or in vain, and the result is the same: what the image has not reached is computed with batch
1, nodes outside the light cone of the readouts are left out, and a node without memory whose inputs have not changed
keeps its output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pcbench.errors import UserError
from pcbench.models.base import Preprocessing, TemporalClassifier
from pcbench.models.convrnn.cells import CellShape, State, cell_class
from pcbench.models.convrnn.graph import Graph, Node
from pcbench.models.convrnn.layers import Conv2d, SameConv2d, glorot, small_normal, variance_scaling


class Layer(nn.Module):
    """One node's computation in one step.

    Args:
        graph: which it is part of.
        name: of the node.
        channels: of the node's feedforward input.
        feedback: channels of all its feedback together.
        size: (height, width) of the convolution's output.
        num_classes: channels of a readout.
    """

    def __init__(
        self, graph: Graph, name: str, channels: int, feedback: int, size: tuple[int, int], num_classes: int
    ) -> None:
        super().__init__()
        node = self.node = graph.nodes[name]
        make = cell_class(graph.cell)
        self.feedback_to_cell = node.cell and make.takes_feedback
        self.convolution = (
            nn.Identity()
            if node.readout == "linear"
            else _convolution(node, channels + (0 if self.feedback_to_cell else feedback), num_classes)
        )
        self.activation = _activation(node, node.cell and make.pre_activation)
        self.cell = None
        if node.cell:
            if make.sees_input and node.stride != 1:
                raise UserError(
                    f"node {name!r}: its cell sees the node's input beside the convolution's output, so it expects "
                    f"stride 1, found {node.stride}"
                )
            shape = CellShape(name, node.channels, node.out_channels, channels, feedback, size, graph.width)
            try:
                self.cell = make(shape, **node.cell_options)
            except TypeError:  # an option that the cell does not have
                raise UserError(
                    f"node {name!r}: cell {graph.cell!r} does not have all of the options "
                    f"{', '.join(sorted(node.cell_options))}"
                ) from None
        self.second: SameConv2d | None = None
        self.projection: nn.Module = nn.Identity()
        if node.residual:
            self.second = SameConv2d(node.out_channels, node.out_channels, 3)
            variance_scaling()(self.second)
            if channels != node.out_channels or node.stride != 1:
                projection = SameConv2d(channels, node.out_channels, 1, node.stride, bias=False)
                glorot(projection)
                self.projection = projection
        self.linear = nn.Linear(channels, num_classes) if node.readout == "linear" else None
        if self.linear is not None:
            small_normal(self.linear)

    def forward(self, source: Tensor, feedback: Sequence[Tensor], state: State) -> tuple[Tensor, State]:
        """One step: (output, new state). `feedback` has the size of `source` already; see `harbour`."""
        seen = source if self.feedback_to_cell or not feedback else _concatenate([source, *feedback])
        x = self.activation(self.convolution(seen))
        if self.cell is not None:
            into_cell = _concatenate(feedback) if feedback and self.feedback_to_cell else None
            x, state = self.cell(x, state, source, into_cell)
        if self.second is not None:
            x = F.elu(self.second(x) + self.projection(source))
        if self.node.pool > 1:
            x = F.max_pool2d(x, self.node.pool, ceil_mode=True)
        if self.node.readout is not None:
            x = x.mean(dim=(2, 3))
            x = x if self.linear is None else self.linear(x).to(x.dtype)
        return x, state


def harbour(source: Tensor, feedback: Sequence[Tensor]) -> list[Tensor]:
    """Feedback brought to the size of the feedforward input: bilinear, with the corners aligned.

    Args:
        source: (B, C, H, W), the feedforward input.
        feedback: (B, C', H', W') each.
    """
    size = source.shape[-2:]
    return [
        other
        if other.shape[-2:] == size
        else F.interpolate(other, size=(int(size[0]), int(size[1])), mode="bilinear", align_corners=True)
        for other in feedback
    ]


@dataclass(frozen=True)
class Moment:
    """Everything that one step hands on to the next.

    Attributes:
        outputs: of each node.
        states: of each node with memory.
        inputs: what each node had for its output, to know whether it can keep it.
    """

    outputs: Mapping[str, Tensor]
    states: Mapping[str, State]
    inputs: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)


class ConvRNN(TemporalClassifier):
    """A convolutional recurrent network over images in [0, 1].

    States and all that is computed from them are of single precision or better; under autocast, convolutions compute
    their products in less.

    Args:
        graph: nodes, edges, cell.
        num_classes: length of the logits.
        preprocessing: size (which fixes kernels that are clipped to their map, and peepholes), mean, deviation.

    Raises:
        UserError: the images are too small for the graph, or the channels of a node and its cell do not fit.
    """

    def __init__(self, graph: Graph, num_classes: int, preprocessing: Preprocessing) -> None:
        super().__init__(num_classes, preprocessing, graph.timesteps if graph.has_dynamics else 0)
        self.graph = graph
        self.has_dynamics = graph.has_dynamics
        sizes = graph.sizes(*preprocessing.size)
        channels = {name: node.out_channels for name, node in graph.nodes.items()}
        self.layers = nn.ModuleDict()
        for name in graph.nodes:
            source = graph.inputs(name, "feedforward")
            before = channels[source[0].source] if source else len(preprocessing.mean)
            feedback = sum(channels[edge.source] for edge in graph.inputs(name, "feedback"))
            self.layers[name] = Layer(graph, name, before, feedback, sizes[name][0], num_classes)
        self.provenance = {"graph": graph.name, "cell": graph.cell, "width": graph.width}

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        """Logits (T + 1, B, classes) of normalised images, from the first step at which the image is in them."""
        moment = self.beginning(x)
        logits = []
        for step, needed in enumerate(self.graph.cone(timesteps)):
            advance = partial(self.step, x, needed)
            if self.checkpointing and torch.is_grad_enabled():
                advance = partial(checkpoint, advance, use_reentrant=False, preserve_rng_state=False)
            moment = advance(moment)
            if step >= self.graph.first_readout:
                logits.append(moment.outputs[self.graph.readout])
        return torch.stack(logits)

    def beginning(self, x: Tensor) -> Moment:
        """Before step 0: all outputs and states are zeros, of batch 1."""
        sizes = self.graph.sizes(x.shape[-2], x.shape[-1])
        outputs, states = {}, {}
        for name, node in self.graph.nodes.items():
            inside, outside = sizes[name]
            if node.readout is None:
                outputs[name] = x.new_zeros(1, node.out_channels, *outside)
            cell = self.layer(name).cell
            states[name] = () if cell is None else cell.start(inside, x)
        return Moment(outputs, states)

    def step(self, x: Tensor, needed: frozenset[str], before: Moment) -> Moment:
        """All needed nodes once. `x`: (B, C, H, W), what the entry node sees."""
        outputs, states, inputs = dict(before.outputs), dict(before.states), dict(before.inputs)
        for name in self.graph.nodes:
            if name not in needed:
                continue
            edges = [*self.graph.inputs(name, "feedforward"), *self.graph.inputs(name, "feedback")]
            seen = [(outputs if edge.delay == 0 else before.outputs)[edge.source] for edge in edges]
            if name == self.graph.entry:
                seen = [x, *seen]
            layer = self.layer(name)
            if name not in self.graph.remembering and name in inputs and _same(inputs[name], seen):
                continue
            outputs[name], states[name] = layer(seen[0], harbour(seen[0], seen[1:]), states[name])
            inputs[name] = seen
        return Moment(outputs, states, inputs)

    def layer(self, name: str) -> Layer:
        """The layer of a node."""
        return cast("Layer", self.layers[name])


def _same(before: Sequence[Tensor], now: Sequence[Tensor]) -> bool:
    return len(before) == len(now) and all(old is new for old, new in zip(before, now, strict=True))


def _concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Side by side along the channels; a part of batch 1 belongs to every image."""
    batch = max(part.shape[0] for part in parts)
    return torch.cat([part.expand(batch, -1, -1, -1) for part in parts], dim=1)


def _convolution(node: Node, channels: int, num_classes: int) -> nn.Conv2d:
    out = num_classes if node.readout else node.channels
    made: nn.Conv2d
    if node.padding == "same":
        made = SameConv2d(channels, out, node.kernel, node.stride)
    else:
        padding = node.kernel // 2 if node.padding == "symmetric" else 0
        made = Conv2d(channels, out, node.kernel, node.stride, padding)
    (small_normal if node.readout else variance_scaling())(made)
    return made


def _activation(node: Node, rectified: bool) -> nn.Module:
    match node.activation:
        case "elu":
            return nn.ELU()
        case "cell":
            return nn.ELU() if rectified else nn.Identity()
        case "group-norm-relu":
            groups = max(count for count in range(1, 33) if node.channels % count == 0)
            return nn.Sequential(nn.GroupNorm(groups, node.channels), nn.ReLU())
        case "none":
            return nn.Identity()
