"""Graphs as data: what follows from them, the published sizes, and what is refused."""

from pathlib import Path

import pytest
import torch

from pcbench.errors import UserError
from pcbench.models.base import IMAGENET_224
from pcbench.models.convrnn.graph import Graph, GraphFile, make_graph, read_graph, shipped_graphs
from pcbench.models.convrnn.network import ConvRNN
from pcbench.models.vgg import CIFAR10

FILES = shipped_graphs()

# millions: without cells, in cells, together
PUBLISHED = {
    ("shallow", "timedecay"): (4.198, 0.0, 4.198),
    ("shallow", "simplernn"): (2.879, 3.394, 6.273),
    ("shallow", "gru"): (4.198, 21.237, 25.434),
    ("shallow", "lstm"): (2.879, 18.247, 21.126),
    ("shallow", "ugrnn"): (4.198, 14.158, 18.356),
    ("shallow", "intersectionrnn"): (4.198, 28.316, 32.513),
    ("shallow", "rgc"): (4.198, 19.759, 23.957),
    ("intermediate", "timedecay"): (16.403, 0.0, 16.403),
    ("intermediate", "simplernn"): (16.403, 17.110, 33.513),
    ("intermediate", "gru"): (16.403, 51.322, 67.725),
    ("intermediate", "lstm"): (16.403, 68.429, 84.832),
    ("intermediate", "intersectionrnn"): (16.403, 68.429, 84.832),
    ("intermediate", "ugrnn"): (16.403, 34.214, 50.618),
    ("intermediate-rgc", "rgc"): (6.054, 9.391, 15.446),
}
CIFAR_HALF = {("shallow", "rgc"): 5.48, ("intermediate-rgc", "rgc"): 3.72}


def parameters(graph: Graph, classes: int, preprocessing) -> tuple[int, int]:
    """(outside cells, in cells), without making a tensor."""
    with torch.device("meta"):
        model = ConvRNN(graph, classes, preprocessing)
    total = sum(parameter.numel() for parameter in model.parameters())
    cells = [layer.cell for layer in model.layers.values() if layer.cell is not None]
    inside = sum(parameter.numel() for cell in cells for parameter in cell.parameters())
    return total - inside, inside


@pytest.mark.parametrize(("file", "cell"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(file: str, cell: str) -> None:
    outside, inside = parameters(make_graph(FILES[file], cell), 1000, IMAGENET_224)
    found = tuple(round(count / 1e6, 3) for count in (outside, inside, outside + inside))
    assert found == PUBLISHED[file, cell]


@pytest.mark.parametrize(("file", "cell"), CIFAR_HALF)
def test_parameter_counts_at_cifar_size_and_half_width(file: str, cell: str) -> None:
    counts = parameters(make_graph(FILES[file], cell, "cifar", 0.5), 10, CIFAR10)
    assert round(sum(counts) / 1e6, 2) == CIFAR_HALF[file, cell]


def test_image_reaches_the_readouts_when_published_networks_say() -> None:
    assert make_graph(FILES["shallow"], "rgc").first_readout == 5
    assert make_graph(FILES["intermediate"], "gru").first_readout == 10
    assert make_graph(FILES["intermediate-rgc"], "rgc").first_readout == 10
    assert make_graph(FILES["cornet-rt"], "cornet-rt").first_readout == 3


def test_maps_have_the_published_sizes() -> None:
    sizes = make_graph(FILES["shallow"], "rgc").sizes(224, 224)
    assert [sizes[name][1][0] for name in sizes] == [56, 28, 14, 7, 4, 3]
    sizes = make_graph(FILES["intermediate-rgc"], "rgc").sizes(224, 224)
    assert [sizes[f"conv{n}"][0][0] for n in range(1, 11)] == [112, 56, 56, 56, 28, 28, 14, 7, 7, 7]
    sizes = make_graph(FILES["shallow"], "rgc", "cifar").sizes(32, 32)
    assert [sizes[f"conv{n}"][0][0] for n in range(3, 6)] == [8, 4, 2]
    sizes = make_graph(FILES["intermediate-rgc"], "rgc", "cifar").sizes(32, 32)
    assert [sizes[f"conv{n}"][0][0] for n in range(1, 11)] == [32, 16, 16, 16, 8, 8, 4, 2, 2, 2]


def test_feedback_edges_are_the_five_of_the_median_model() -> None:
    graph = make_graph(FILES["intermediate-rgc"], "rgc")
    found = {(edge.source, edge.target) for edge in graph.edges if edge.role == "feedback"}
    pairs = [("conv8", "conv5"), ("conv9", "conv6"), ("conv10", "conv7"), ("conv7", "conv6"), ("conv10", "conv9")]
    assert found == set(pairs)


@pytest.mark.parametrize(("target", "below"), [("conv6", "conv5"), ("conv7", "conv6"), ("conv9", "conv8")])
def test_feedforward_input_is_found_by_role_not_by_name(target: str, below: str) -> None:
    """Sorted by name, "conv10" comes before "conv6" and would be taken for the feedforward input."""
    graph = make_graph(FILES["intermediate-rgc"], "rgc")
    assert [edge.source for edge in graph.inputs(target, "feedforward")] == [below]
    model = ConvRNN(make_graph(FILES["intermediate-rgc"], "rgc", "cifar", 0.1), 10, CIFAR10)
    assert model.layer(target).convolution.in_channels == graph.nodes[below].widened(0.1).channels


def test_feedback_edges_are_used_as_often_as_published() -> None:
    """Within 17 steps: three times over three layers, five times over one (counted where both ends see the image)."""
    graph = make_graph(FILES["intermediate-rgc"], "rgc")
    cone = graph.cone(graph.timesteps)
    uses = {}
    for edge in graph.edges:
        if edge.role == "feedback":
            steps = range(graph.arrival[edge.source] + 1, len(cone))
            uses[edge.source, edge.target] = sum(edge.target in cone[step] for step in steps)
    assert uses == {
        ("conv8", "conv5"): 3,
        ("conv9", "conv6"): 3,
        ("conv10", "conv7"): 3,
        ("conv7", "conv6"): 5,
        ("conv10", "conv9"): 5,
    }


def small(**changes: object) -> dict[str, object]:
    table: dict[str, object] = {
        "name": "toy",
        "description": "a toy",
        "timesteps": 3,
        "cells": {"timedecay": "timedecay"},
        "nodes": [
            {"name": "a", "channels": 2},
            {"name": "b", "channels": 3, "cell": True, "pool": 2},
            {"name": "out", "kernel": 1, "activation": "none", "readout": "linear"},
        ],
        "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "out"}],
    }
    return {**table, **changes}


def graph_of(table: dict[str, object], cell: str = "timedecay", geometry: str | None = None) -> Graph:
    return make_graph(GraphFile.model_validate(table), cell, geometry)


def test_toy_graph_is_accepted() -> None:
    assert graph_of(small()).first_readout == 2


def edges(*extra: dict[str, object]) -> list[dict[str, object]]:
    return [{"from": "a", "to": "b"}, {"from": "b", "to": "out"}, *extra]


NODES = small()["nodes"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": edges({"from": "c", "to": "a"})}, "names node 'c', which is missing; known: a, b, out"),
        (
            {
                "edges": [
                    *edges({"from": "b", "to": "a", "role": "feedback", "delay": 0})[1:],
                    {"from": "a", "to": "b", "delay": 0},
                ]
            },
            "cycle without delay: (a -> b -> a|b -> a -> b)",
        ),
        ({"edges": edges({"from": "a", "to": "out"})}, "node 'out' has 2 feedforward inputs"),
        ({"edges": edges()[:1]}, "found 2: a, out"),
        ({"nodes": NODES[:2], "edges": edges()[:1]}, "one node is the readout; found 0"),
        ({"nodes": [{"name": "a"}, *NODES[1:]]}, "node 'a' does not say how many channels"),
        ({"nodes": [*NODES, NODES[0]]}, "two nodes of the same name"),
        ({"cell_overrides": {"timedecay": {"d": {"pool": 1}}}}, "an override names node 'd', which is missing"),
        ({"cell_overrides": {"timedecay": {"b": {"pol": 1}}}}, "override of node 'b': pol: Extra inputs"),
    ],
)
def test_broken_graph_is_refused_with_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        graph_of(small(**changes))
    assert "\n" not in str(error.value)


def test_unknown_cell_and_geometry_are_refused() -> None:
    with pytest.raises(UserError, match="no cell 'grru'; did you mean gru"):
        graph_of(small(), "grru")
    with pytest.raises(UserError, match="graph shallow has no geometry 'cifer'; did you mean cifar"):
        make_graph(FILES["shallow"], "rgc", "cifer")


@pytest.mark.parametrize(("file", "size"), [("shallow", 8), ("intermediate", 4)])
def test_too_small_images_are_refused(file: str, size: int) -> None:
    graph = make_graph(FILES[file], "timedecay", "cifar", 0.1)
    with pytest.raises(UserError, match=rf"images of {size} x {size} are too small.*'conv\d+'"):
        graph.sizes(size, size)


def test_too_small_for_the_readout_without_padding() -> None:
    graph = make_graph(FILES["shallow"], "rgc")
    with pytest.raises(UserError, match="node 'imnetds' has a kernel of 2 x 2 and gets a map of 1 x 1"):
        graph.sizes(33, 33)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no graph none\.toml"):
        read_graph(tmp_path / "none.toml")
    file = tmp_path / "bad.toml"
    file.write_text("nodes = [")
    with pytest.raises(UserError, match=r"bad\.toml is not valid TOML"):
        read_graph(file)
    file.write_text('name = "x"\n')
    with pytest.raises(UserError, match=r"graph bad\.toml: description: Field required"):
        read_graph(file)


def test_option_that_a_cell_does_not_have_is_refused() -> None:
    table = small(cell_overrides={"timedecay": {"b": {"cell_options": {"kernel": 3}}}})
    with pytest.raises(UserError, match="node 'b': cell 'timedecay' does not have all of the options kernel"):
        ConvRNN(graph_of(table | {"nodes": [NODES[0], {**NODES[1]}, NODES[2]]}), 10, CIFAR10)


def test_cell_channels_that_do_not_fit_are_refused_by_node() -> None:
    table = small(nodes=[NODES[0], {**NODES[1], "cell_channels": 4}, NODES[2]])
    with pytest.raises(UserError, match=r"node 'b': TimeDecay expects 4 channels.*found 3"):
        ConvRNN(graph_of(table), 10, CIFAR10)
