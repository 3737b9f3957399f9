"""Under bfloat16 autocast each term does to the states what it does in float32.

The effect of a term is the change of all states e_n(t), t = 1..4, when its weight is set to 0. The error term can be
1e-5 of a state, which no state in bfloat16 holds and no layer in bfloat16 carries on.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pcbench.models.base import TemporalClassifier
from pcbench.models.controls import Averaging, Diffusion
from pcbench.models.convrnn.network import ConvRNN
from pcbench.models.hah import HaHBlock
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.network import PredictiveNet
from pcbench.models.resolve import load_model
from pcbench.models.spec import MODELS

TIMESTEPS = 4
ROUNDING = 2**-7  # of layers in bfloat16, with a margin of two
FLOAT32 = 1e-4  # of a state: of smaller changes, float32's own rounding in the layers is a share that is seen here
TOLERANCE = 0.1

PREDICTIVE = {name: 64 for name, spec in MODELS if spec.family == "predictive"} | {"pvgg16-cifar": 32, "pvgg16": 32}
PREDICTIVE |= {"presnet18-cifar": 32, "pefficientnet-lite1": 240, "pefficientnet-lite2": 260}
SLOW = {"pvgg16", "presnet50", "pefficientnet-lite1", "pefficientnet-lite2"}


def images(size: int, count: int = 2) -> Tensor:
    """Smooth pictures with some grain, in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.rand(count, 3, 8, 8, generator=generator), size=(size, size), mode="bilinear")
    return 0.7 * smooth + 0.3 * torch.rand(count, 3, size, size, generator=generator)


def autocast(on: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


def states(net: PredictiveNet, x: Tensor, low: bool) -> list[list[Tensor]]:
    """e_1..e_N at t = 1..T; states, predictions and errors are seen to be float32."""
    found = []
    with torch.inference_mode(), autocast(low):
        for step in net.unroll(x, TIMESTEPS):
            tensors = [*step.representations, *step.predictions, *step.errors]
            assert {tensor.dtype for tensor in tensors} == {torch.float32}
            found.append([e.double() for e in step.representations])
    return found[1:]


@pytest.mark.parametrize("scaling", ["none", "kc"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in PREDICTIVE])
def test_each_term_of_a_predictive_network_has_its_effect(name: str, scaling: str) -> None:
    at_hand = (entry.tag for entry in MODELS[name].weights if not entry.missing())
    model = load_model(name, next(at_hand, "random"))
    assert isinstance(model, PredictiveClassifier)
    net = model.network
    net.scaling = "kc" if scaling == "kc" else "none"
    x = model.normalise(images(PREDICTIVE[name]))
    values = [row.values() for row in net.hyperparameters]
    whole = {low: states(net, x, low) for low in (False, True)}
    for term in ("feedforward", "feedback", "pc"):
        net.hyperparameters = [{**row, term: 0.0} for row in values]
        effect = {}
        for low in (False, True):
            without = states(net, x, low)
            effect[low] = [
                [a - b for a, b in zip(*rows, strict=True)] for rows in zip(whole[low], without, strict=True)
            ]
        for t, (right, found) in enumerate(zip(effect[False], effect[True], strict=True), start=1):
            off = [b - a for a, b in zip(right, found, strict=True)]
            if norm(*right) > FLOAT32 / 10 * norm(*whole[False][t - 1]):
                assert norm(*off) <= TOLERANCE * norm(*right), (term, t)
            for n, (a, b, e) in enumerate(zip(right, off, whole[False][t - 1], strict=True), start=1):
                assert norm(b) <= TOLERANCE * norm(a) or norm(a) < FLOAT32 * norm(e), (term, t, n)


def norm(*tensors: Tensor) -> float:
    """Of all of them together."""
    return float(sum(tensor.square().sum() for tensor in tensors)) ** 0.5


RECURRENT = [name for name, spec in MODELS if name.startswith(("convrnn", "cornet")) and name.endswith("-cifar")]


@pytest.mark.parametrize("name", RECURRENT)
def test_states_of_recurrent_networks_stay_in_single_precision(name: str) -> None:
    """And what memory does, seen when it is wiped out before the last step, is what it does in float32."""
    model = load_model(f"{name}?width=0.25", "random")
    assert isinstance(model, ConvRNN)
    x = model.normalise(images(32))
    effect = {}
    for low in (False, True):
        with torch.inference_mode(), autocast(low):
            moment = model.beginning(x)
            cones = model.graph.cone(TIMESTEPS)
            for needed in cones[:-1]:
                moment = model.step(x, needed, moment)
            empty = {name: tuple(torch.zeros_like(part) for part in parts) for name, parts in moment.states.items()}
            wiped = model.step(x, cones[-1], type(moment)(moment.outputs, empty, {}))
            last = model.step(x, cones[-1], type(moment)(moment.outputs, moment.states, {}))
        tensors = [part for parts in last.states.values() for part in parts] + list(last.outputs.values())
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
        names = [node for node in cones[-1] if node in model.graph.remembering]
        effect[low] = {node: (last.outputs[node] - wiped.outputs[node]).double() for node in names}
    for node, right in effect[False].items():
        if float(right.norm()) > ROUNDING * float(last.outputs[node].norm()):
            assert float(effect[True][node].norm() / right.norm()) == pytest.approx(1, abs=TOLERANCE), node


@pytest.mark.parametrize("part", ["normalisation", "threshold"])
def test_parts_of_hah_blocks_have_their_effect(part: str) -> None:
    model = load_model("hah-vgg16?width=0.25", "random")
    blocks = [module for module in model.modules() if isinstance(module, HaHBlock)]
    x, effect = model.normalise(images(32)), {}
    for low in (False, True):
        with torch.inference_mode(), autocast(low):
            effect[low], y = [], x
            for block in blocks:
                drive = block.conv(y)
                whole, kept = block.activate(drive), getattr(block, part)
                setattr(block, part, torch.nn.Identity())
                effect[low].append((whole - block.activate(drive)).double())
                setattr(block, part, kept)
                assert whole.dtype == torch.float32
                y = whole
    for right, found in zip(effect[False], effect[True], strict=True):
        assert float(found.norm() / right.norm()) == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize("make", [lambda m: Averaging(m, 0.2), lambda m: Diffusion(m, 0.6)])
def test_controls_change_as_much_with_time(make) -> None:
    model: TemporalClassifier = make(load_model("vgg16-cifar"))
    changes = {}
    for low in (False, True):
        with torch.inference_mode(), autocast(low):
            answers = model(images(32), TIMESTEPS)
        assert answers.dtype == torch.float32
        shares = answers.double().softmax(-1)
        changes[low] = (shares[1:] - shares[:1]).flatten(1).norm(dim=1)
    torch.testing.assert_close(changes[True], changes[False], rtol=TOLERANCE, atol=1e-3)
