"""A recurrent network as data: nodes, edges that cost time, and what follows from them.

One TOML file describes a graph for ImageNet images and, by overrides, its geometry for other images and its differences
between cells. Everything inside a node happens in one step; an edge hands a node's output on to the next step (delay 1)
or, where a file says so, to the same step (delay 0).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pcbench.errors import UserError, did_you_mean
from pcbench.models.convrnn.cells import cell_class
from pcbench.toml import read_toml

M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Node(Strict):
    """One layer: harbour, convolution, activation, memory, what comes after, pool.

    Attributes:
        name: unique in the graph.
        channels: of the convolution's output.
        kernel, stride: of the convolution.
        padding: "same" as in TensorFlow, "symmetric" (kernel // 2 on all sides), or "valid" (none).
        activation: after the convolution. "cell": ELU where the cell wants its input rectified, else none.
        cell: whether the network's cell is here.
        cell_channels: of the cell's output; None for `channels`.
        cell_options: further arguments of the cell.
        residual: after the memory, a second 3 x 3 convolution, plus the node's input, then ELU.
        pool: size and stride of a max pool at the end; 1 for none.
        readout: this node makes logits: "convolution" (then the mean over space) or "linear" (after the mean).
    """

    name: str
    channels: int = Field(default=0, ge=0)
    kernel: int = Field(default=3, ge=1)
    stride: int = Field(default=1, ge=1)
    padding: Literal["same", "symmetric", "valid"] = "same"
    activation: Literal["elu", "group-norm-relu", "cell", "none"] = "elu"
    cell: bool = False
    cell_channels: int | None = Field(default=None, ge=1)
    cell_options: dict[str, float | int | bool] = Field(default_factory=dict)
    residual: bool = False
    pool: int = Field(default=1, ge=1)
    readout: Literal["convolution", "linear"] | None = None

    def widened(self, width: float) -> "Node":
        """The node with its channels multiplied, at least 1; a readout has as many as there are classes."""
        change = {"channels": max(1, round(self.channels * width))} if self.readout is None else {}
        if self.cell_channels is not None:
            change["cell_channels"] = max(1, round(self.cell_channels * width))
        return self.model_copy(update=change)

    @property
    def out_channels(self) -> int:
        """Channels that the next node sees."""
        return self.cell_channels if self.cell and self.cell_channels is not None else self.channels


class Edge(Strict):
    """Output of one node to another. Feedforward edges carry the image upwards; a node has at most one such input."""

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    role: Literal["feedforward", "feedback"] = "feedforward"
    delay: Literal[0, 1] = 1


class GraphFile(Strict):
    """A graph's TOML file.

    Attributes:
        name: part of the models' names.
        description: one line.
        timesteps: default T: updates after the first answer that the image has reached.
        cells: the cells that it is meant for, as models' names have them -> the cell's own name.
        nodes, edges: the graph.
        cell_overrides: cell -> node -> what differs there.
        geometry: geometry ("cifar") -> node -> what differs there.
    """

    name: str
    description: str
    timesteps: int = Field(ge=0)
    cells: dict[str, str]
    nodes: list[Node]
    edges: list[Edge]
    cell_overrides: dict[str, dict[str, dict[str, object]]] = Field(default_factory=dict)
    geometry: dict[str, dict[str, dict[str, object]]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A checked graph for one cell, geometry and width.

    Attributes:
        name: for messages.
        cell: name of the cell in its memory nodes.
        nodes: by name, in the order in which one step computes them.
        edges: all of them.
        timesteps: default T.
        width: factor on the channels that it was made with.
    """

    name: str
    cell: str
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    timesteps: int
    width: float = 1.0

    def inputs(self, node: str, role: str) -> list[Edge]:
        """The edges of a role into a node, in the order of the file."""
        return [edge for edge in self.edges if edge.target == node and edge.role == role]

    @cached_property
    def entry(self) -> str:
        """The node that sees the image: the one without a feedforward input."""
        return next(name for name in self.nodes if not self.inputs(name, "feedforward"))

    @cached_property
    def readout(self) -> str:
        """The node that makes the logits."""
        return next(name for name, node in self.nodes.items() if node.readout is not None)

    @cached_property
    def arrival(self) -> Mapping[str, int]:
        """For each node, the first step at which the image has reached it. Before, its output is the same for all."""
        steps = {self.entry: 0}
        for _ in self.nodes:  # shortest paths; as many rounds as nodes are enough
            for edge in self.edges:
                if edge.source in steps:
                    reached = steps[edge.source] + edge.delay
                    steps[edge.target] = min(reached, steps.get(edge.target, reached))
        return steps

    @cached_property
    def remembering(self) -> frozenset[str]:
        """The nodes whose output depends on their own past."""
        return frozenset(name for name, node in self.nodes.items() if node.cell and cell_class(self.cell).memory)

    @property
    def has_dynamics(self) -> bool:
        """Whether the answer to a constant image can change after its first arrival."""
        return bool(self.remembering) or any(edge.role == "feedback" for edge in self.edges)

    @property
    def first_readout(self) -> int:
        """The step of the first logits that the image has reached: t = 0."""
        return self.arrival[self.readout]

    def cone(self, timesteps: int) -> list[frozenset[str]]:
        """For each step up to the last readout, the nodes that some readout at t = 0..timesteps depends on."""
        last = self.first_readout + timesteps
        needed: list[set[str]] = [set() for _ in range(last + 2)]
        for step in range(last, -1, -1):
            now = {self.readout} if step >= self.first_readout else set()
            now |= needed[step + 1] & self.remembering
            now |= {edge.source for edge in self.edges if edge.delay == 1 and edge.target in needed[step + 1]}
            for name in reversed(
                list(self.nodes)
            ):  # against the order of computation, for what is needed in the same step
                if name in now:
                    now |= {edge.source for edge in self.edges if edge.delay == 0 and edge.target == name}
            needed[step] = now
        return [frozenset(names) for names in needed[:-1]]

    def sizes(self, height: int, width: int) -> dict[str, tuple[tuple[int, int], tuple[int, int]]]:
        """(size of the convolution's output, size of the node's output) of each node, in pixels.

        Raises:
            UserError: the image is too small: a kernel without padding or a pool does not fit.
        """
        sizes: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
        for name in self._upwards():
            node = self.nodes[name]
            source = self.inputs(name, "feedforward")
            before = sizes[source[0].source][1] if source else (height, width)
            if node.padding == "valid":
                inside = tuple((side - node.kernel) // node.stride + 1 for side in before)
            elif node.padding == "same":
                inside = tuple(-(-side // node.stride) for side in before)
            else:
                inside = tuple((side + 2 * (node.kernel // 2) - node.kernel) // node.stride + 1 for side in before)
            if min(inside) < 1:
                raise UserError(
                    f"images of {height} x {width} are too small for graph {self.name}: node {name!r} has a kernel of "
                    f"{node.kernel} x {node.kernel} and gets a map of {before[0]} x {before[1]}"
                )
            if node.pool > 1 and max(inside) == 1:
                raise UserError(
                    f"images of {height} x {width} are too small for graph {self.name}: the pool of node {name!r} gets "
                    f"a map of 1 x 1"
                )
            outside = tuple(-(-side // node.pool) for side in inside)
            sizes[name] = ((inside[0], inside[1]), (outside[0], outside[1]))
        return sizes

    def _upwards(self) -> list[str]:
        """The nodes along the feedforward edges, each after its input."""
        order = [self.entry]
        for name in order:
            order += [edge.target for edge in self.edges if edge.role == "feedforward" and edge.source == name]
        return order


def make_graph(file: GraphFile, cell: str, geometry: str | None = None, width: float = 1.0) -> Graph:
    """The graph of a file for a cell, a geometry and a width.

    Args:
        file: see `read_graph`.
        cell: one of `file.cells`, or any cell's own name.
        geometry: None for the file's own; else a key of `file.geometry`.
        width: factor on all channel counts.

    Raises:
        UserError: unknown cell or geometry, an override or an edge of a node that is not there, no or several readouts
            or entries, a node that no path reaches, two feedforward inputs, a cycle without delay.
    """
    cell = file.cells.get(cell, cell)
    cell_class(cell)
    if not 0 < width <= 8:
        raise UserError(f"width is {width:g}; it is a factor on the channels, greater than 0 and at most 8")
    if geometry is not None and geometry not in file.geometry:
        raise UserError(f"graph {file.name} has no geometry {geometry!r}; {did_you_mean(geometry, file.geometry)}")
    nodes = {node.name: node for node in file.nodes}
    if len(nodes) < len(file.nodes):
        raise UserError(f"graph {file.name} has two nodes of the same name")
    for overrides in (file.cell_overrides.get(cell, {}), file.geometry[geometry] if geometry else {}):
        for name, changes in overrides.items():
            _require_node(file, nodes, name, "an override")
            changed = {**nodes[name].model_dump(), **changes}
            nodes[name] = _validated(Node, changed, f"graph {file.name}, override of node {name!r}")
    for edge in file.edges:
        _require_node(file, nodes, edge.source, f"the edge to {edge.target!r}")
        _require_node(file, nodes, edge.target, f"the edge from {edge.source!r}")
    ordered = _order_of_a_step(file, list(nodes))
    graph = Graph(
        name=file.name,
        cell=cell,
        nodes={name: nodes[name] for name in ordered},
        edges=tuple(file.edges),
        timesteps=file.timesteps,
        width=width,
    )
    _check(graph)
    return replace(graph, nodes={name: node.widened(width) for name, node in graph.nodes.items()})


def read_graph(path: str | Path) -> GraphFile:
    """Read a graph's TOML file. Raises UserError with the file, the place and the fault."""
    path = Path(path)
    return _validated(GraphFile, read_toml(path, f"graph {path.name}"), f"graph {path.name}")


def shipped_graphs() -> dict[str, GraphFile]:
    """The graphs that come with this package, by file name without suffix."""
    folder = files("pcbench.models.convrnn") / "graphs"
    paths = sorted(Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {path.stem: read_graph(path) for path in paths}


def _validated(model: type[M], table: Mapping[str, object], where: str) -> M:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{where}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def _require_node(file: GraphFile, nodes: Mapping[str, Node], name: str, what: str) -> None:
    if name not in nodes:
        raise UserError(f"graph {file.name}: {what} names node {name!r}, which is missing; {did_you_mean(name, nodes)}")


def _order_of_a_step(file: GraphFile, names: list[str]) -> list[str]:
    """The nodes so that edges without delay point forwards; the file's order otherwise."""
    waiting = {name: {edge.source for edge in file.edges if edge.target == name and edge.delay == 0} for name in names}
    order: list[str] = []
    while waiting:
        ready = [name for name, sources in waiting.items() if sources <= set(order)]
        if not ready:
            raise UserError(f"graph {file.name} has a cycle without delay: {' -> '.join(_cycle(waiting))}")
        order.append(ready[0])
        del waiting[ready[0]]
    return order


def _cycle(waiting: Mapping[str, set[str]]) -> list[str]:
    """One cycle among nodes each of which waits for another one of them."""
    path = [next(iter(waiting))]
    while path.count(path[-1]) == 1:
        path.append(next(source for source in sorted(waiting[path[-1]]) if source in waiting))
    return path[path.index(path[-1]) :][::-1]


def _check(graph: Graph) -> None:
    entries = [name for name in graph.nodes if not graph.inputs(name, "feedforward")]
    readouts = [name for name, node in graph.nodes.items() if node.readout is not None]
    if len(entries) != 1:
        raise UserError(
            f"graph {graph.name}: one node sees the image, the one without a feedforward input; found "
            f"{len(entries)}: {', '.join(entries) or 'none'}"
        )
    if len(readouts) != 1:
        raise UserError(f"graph {graph.name}: one node is the readout; found {len(readouts)}: {', '.join(readouts)}")
    for name, node in graph.nodes.items():
        feedforward = graph.inputs(name, "feedforward")
        if len(feedforward) > 1:
            raise UserError(
                f"graph {graph.name}: node {name!r} has {len(feedforward)} feedforward inputs "
                f"({', '.join(edge.source for edge in feedforward)}); the others are feedback"
            )
        if node.readout is None and node.channels == 0:
            raise UserError(f"graph {graph.name}: node {name!r} does not say how many channels it has")
        if name not in graph.arrival:
            raise UserError(f"graph {graph.name}: the image never reaches node {name!r}")
