"""The unrolled network against one that computes everything at every step."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor

import pcbench
from pcbench.models.convrnn.graph import GraphFile, make_graph, shipped_graphs
from pcbench.models.convrnn.network import ConvRNN, harbour
from pcbench.models.vgg import CIFAR10

FILES = shipped_graphs()
ALL = [(file, cell) for file in FILES for cell in FILES[file].cells]


def network(file: str, cell: str, width: float = 0.06, seed: int = 0) -> ConvRNN:
    torch.manual_seed(seed)
    model = ConvRNN(make_graph(FILES[file], cell, "cifar", width), 10, CIFAR10).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and decays, too, so that what comes before the image is not zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def everything(model: ConvRNN, x: Tensor, timesteps: int) -> Tensor:
    """All nodes at all steps with the whole batch, from zeros; nothing left out, nothing kept."""
    graph = model.graph
    sizes = graph.sizes(*x.shape[-2:])
    outputs, states = {}, {}
    for name, node in graph.nodes.items():
        inside, outside = sizes[name]
        outputs[name] = x.new_zeros(len(x), node.out_channels, *outside)
        cell = model.layer(name).cell
        channels = () if cell is None else cell.states
        states[name] = tuple(x.new_zeros(len(x), count, *inside) for count in channels)
    logits = []
    for step in range(graph.first_readout + timesteps + 1):
        old, outputs = outputs, dict(outputs)
        for name in graph.nodes:
            below = graph.inputs(name, "feedforward")
            source = x if not below else (old if below[0].delay else outputs)[below[0].source]
            above = [(old if edge.delay else outputs)[edge.source] for edge in graph.inputs(name, "feedback")]
            outputs[name], states[name] = model.layer(name)(source, harbour(source, above), states[name])
        if step >= graph.first_readout:
            logits.append(outputs[graph.readout])
    return torch.stack(logits)


@pytest.mark.parametrize(("file", "cell"), ALL)
def test_leaving_out_and_keeping_changes_nothing(file: str, cell: str) -> None:
    model = network(file, cell)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model.rollout(x, 3), everything(model, x, 3), rtol=1e-10, atol=1e-12)


def two_way() -> ConvRNN:
    """Feedback into a node without a cell of its own, into the entry, over a pool, within one step, and on itself."""
    table = {
        "name": "two-way",
        "description": "feedback of every kind",
        "timesteps": 4,
        "cells": {"gru": "gru"},
        "nodes": [
            {"name": "c", "channels": 2},
            {"name": "b", "channels": 3, "cell": True, "pool": 2, "residual": True},
            {"name": "a", "channels": 2},
            {"name": "out", "kernel": 1, "activation": "none", "readout": "linear"},
        ],
        "edges": [
            {"from": "a", "to": "c", "role": "feedback"},
            {"from": "a", "to": "b", "role": "feedback"},
            {"from": "a", "to": "a", "role": "feedback"},
            {"from": "c", "to": "b"},
            {"from": "b", "to": "a", "delay": 0},
            {"from": "a", "to": "out"},
        ],
    }
    torch.manual_seed(0)
    return ConvRNN(make_graph(GraphFile.model_validate(table), "gru"), 10, CIFAR10).double()


def test_feedback_of_every_kind_is_unrolled_rightly() -> None:
    model = two_way()
    x = torch.randn(3, 3, 8, 7, dtype=torch.float64)
    torch.testing.assert_close(model.rollout(x, 5), everything(model, x, 5), rtol=1e-10, atol=1e-12)


def calls_of(model: ConvRNN, x: Tensor, timesteps: int) -> dict[str, list[int]]:
    """For each node, the batch sizes with which it was computed."""
    calls: dict[str, list[int]] = {name: [] for name in model.graph.nodes}
    for name in calls:
        model.layer(name).register_forward_hook(lambda _m, _i, out, name=name: calls[name].append(len(out[0])))
    model.rollout(x, timesteps)
    return calls


def test_nothing_is_computed_in_vain() -> None:
    model = network("shallow", "rgc").float()
    calls = calls_of(model, torch.randn(4, 3, 32, 32), 2)
    # without memory: once for zeros, and once for the image
    assert calls["conv1"] == [4]
    assert calls["conv2"] == [1, 4]
    # with memory: alone until the image arrives, and then for as long as it matters to the last readout (step 7)
    assert calls["conv3"] == [1, 1] + [4] * 3  # steps 2 .. 4
    assert calls["conv4"] == [1, 1, 1] + [4] * 3
    assert calls["conv5"] == [1, 1, 1, 1] + [4] * 3
    assert calls["imnetds"] == [4] * 3


@pytest.mark.parametrize(
    ("file", "cell"), [("shallow", "lstm"), ("intermediate-rgc", "rgc"), ("cornet-rt", "cornet-rt")]
)
def test_answers_do_not_depend_on_how_long_the_unrolling_goes_on(file: str, cell: str) -> None:
    model = network(file, cell)
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    trained = model.timesteps
    with torch.no_grad():
        longer = model(x, timesteps=trained + 5)
        torch.testing.assert_close(longer[: trained + 1], model(x), rtol=1e-10, atol=1e-12)
    assert bool(longer.isfinite().all())
    assert longer.shape == (trained + 6, 2, 10)


def test_the_image_is_in_the_first_answer_and_answers_change() -> None:
    model = network("intermediate-rgc", "rgc")
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        answers = model(x)
    assert not torch.allclose(answers[0, 0], answers[0, 1])
    assert all(not torch.allclose(answers[t], answers[t + 1]) for t in range(6))


def test_answers_do_not_depend_on_the_batch() -> None:
    model = network("intermediate", "simplernn")
    x = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        together = model(x)
        apart = torch.cat([model(x[i : i + 1]) for i in range(3)], dim=1)
    torch.testing.assert_close(together, apart, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("file", "cell"), [("shallow", "rgc"), ("shallow", "intersectionrnn"), ("intermediate-rgc", "rgc")]
)
def test_gradient_through_time_is_that_of_finite_differences(file: str, cell: str) -> None:
    model = network(file, cell).requires_grad_(False)
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(10, dtype=torch.float64)
    for t in (0, 3):
        read = model.at(t)
        (gradient,) = torch.autograd.grad((read(x) @ weights).sum(), x)
        for _ in range(3):
            direction = torch.randn_like(x)
            step = 1e-6
            with torch.no_grad():
                difference = ((read(x + step * direction) - read(x - step * direction)) @ weights).sum() / (2 * step)
            assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-4, abs=1e-9)


def test_checkpointing_changes_no_gradient() -> None:
    model = network("intermediate-rgc", "rgc").requires_grad_(True)
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    gradients = []
    for checkpointing in (False, True):
        with model.differentiated(checkpointing=checkpointing):
            loss = model(x).square().sum()
            gradients.append(torch.autograd.grad(loss, [x, *model.parameters()], allow_unused=True))
    for plain, recomputed in zip(*gradients, strict=True):
        assert (plain is None) == (recomputed is None)
        if plain is not None:
            torch.testing.assert_close(plain, recomputed, rtol=1e-12, atol=1e-14)


def test_every_parameter_of_the_median_network_takes_part() -> None:
    model = network("intermediate-rgc", "rgc").requires_grad_(True)
    model(torch.rand(1, 3, 32, 32, dtype=torch.float64)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(("file", "cell"), ALL)
def test_the_first_gradient_of_a_training_is_finite(file: str, cell: str) -> None:
    """Before the image arrives, maps are constant, and normalising one must not blow the gradient up."""
    torch.manual_seed(0)
    model = ConvRNN(make_graph(FILES[file], cell, "cifar", 0.06), 10, CIFAR10).train()
    model(torch.rand(4, 3, 32, 32), timesteps=2)[-1].logsumexp(dim=1).sum().backward()
    norms = [float(parameter.grad.norm()) for parameter in model.parameters() if parameter.grad is not None]
    assert np.isfinite(norms).all()
    assert max(norms) > 0


def test_harbour_aligns_the_corners() -> None:
    """A map of 2 x 3 on one of 5 x 5: linear interpolation between pixel centres, corners on corners."""
    feedback = torch.arange(6, dtype=torch.float64).reshape(1, 1, 2, 3)
    (found,) = harbour(torch.zeros(1, 2, 5, 5), [feedback])
    rows, columns = np.linspace(0, 1, 5), np.linspace(0, 2, 5)
    expected = [[3 * row + column for column in columns] for row in rows]
    np.testing.assert_allclose(found[0, 0].numpy(), expected)


def test_control_without_memory_has_no_dynamics() -> None:
    model = pcbench.load_model("convrnn-feedforward-shallow-cifar?width=0.1", "random")
    assert not model.has_dynamics
    assert model.timesteps == 0
    answers = model(torch.rand(2, 3, 32, 32), timesteps=3)
    assert torch.equal(answers[0], answers[3])


@pytest.mark.parametrize("name", ["convrnn-lstm-shallow-cifar", "convrnn-rgc-intermediate-cifar", "cornet-rt-cifar"])
def test_copies_answer_alike(name: str) -> None:
    model = pcbench.load_model(f"{name}?width=0.1", "random")
    assert model.has_dynamics
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model(x)
        assert torch.equal(deepcopy(model)(x), expected)
        assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
        other = pcbench.load_model(f"{name}?width=0.1", "random", seed=1)
        assert not torch.equal(other(x), expected)
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(x), expected)
