"""Hyperparameters as parameters of the network: seen by everything that looks for parameters, never stale."""

import copy
import pickle

import numpy as np
import pytest
import torch
from networks import Chain, calls, randomise
from torch.utils._python_dispatch import TorchDispatchMode

import pcbench
from pcbench.errors import UserError
from pcbench.models.predictive.network import PredictiveNet

TERMS = ("feedforward", "feedback", "pc")


def make(**values: float) -> PredictiveNet:
    torch.manual_seed(1)
    values = {"feedforward": 0.3, "feedback": 0.2, "pc": 0.7, **values}
    tables = [{"module": f"features[{n}]", "hyperparameters": values} for n in (1, 2, 5)]
    return pcbench.predify(randomise(Chain()), {"gradient_scaling": True, "input_size": [3, 8, 8], "pcoders": tables})


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_they_are_parameters_that_nothing_trains_unasked() -> None:
    net = make()
    named = dict(net.named_parameters())
    for n in range(3):
        for term in TERMS:
            parameter = named[f"pcoders.{n}.{term}"]
            assert parameter.shape == ()
            assert not parameter.requires_grad
    assert "pcoders.1.pc" in net.state_dict()
    assert net.half().pcoders[0].pc.dtype == torch.float16
    assert net.to("meta").pcoders[0].pc.device.type == "meta"


def test_an_optimiser_moves_them() -> None:
    net = make().requires_grad_(False)
    chosen = [net.pcoders[0].feedback, net.pcoders[1].pc]
    for parameter in chosen:
        parameter.requires_grad_()
    optimiser = torch.optim.SGD(chosen, lr=0.01)
    before = net(X, 3)
    (-before[-1].square().sum()).backward()
    optimiser.step()
    after = net(X, 3)
    assert float(after[-1].detach().square().sum()) > float(before[-1].detach().square().sum())
    assert net.hyperparameters[0].feedback == pytest.approx(float(chosen[0]))
    assert net.hyperparameters[0].feedback != 0.2
    for parameter in chosen:
        parameter.requires_grad_(False)
    torch.testing.assert_close(net(X, 3), after.detach())


def test_a_state_dict_carries_them() -> None:
    net, other = make(pc=0.0), make(feedback=0.45, pc=0.1)
    other.load_state_dict(net.state_dict())
    assert [values.values() for values in other.hyperparameters] == [values.values() for values in net.hyperparameters]
    with torch.no_grad():
        assert torch.equal(net(X, 3), other(X, 3))
    assert pcbench.models.checkpoints.feedback_tensors(net).keys() == {
        f"pcoders.{n}.{name}" for n in range(3) for name in net.pcoders[n].state_dict() if name not in TERMS
    }


WAYS = {
    "fill_": lambda p: p.fill_(0.4),
    "copy_": lambda p: p.copy_(torch.tensor(0.4)),
    "add_": lambda p: p.add_(0.4 - p),
    "out": lambda p: torch.add(torch.tensor(0.4), 0.0, out=p),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("start", [0.0, 0.1])
def test_what_is_written_by_other_means_is_what_is_used(way: str, term: str, start: float) -> None:
    net, expected = make(**{term: start}), make(**{term: 0.4})
    with torch.no_grad():
        net(X, 2)
        for pcoder in net.pcoders:
            WAYS[way](getattr(pcoder, term))
        torch.testing.assert_close(net(X, 3), expected(X, 3))
    assert getattr(net.hyperparameters[0], term) == pytest.approx(0.4)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "state dict": lambda net: (other := make(), other.load_state_dict(net.state_dict()))[0],
    "double and back": lambda net: net.double().float(),
    "replaced": lambda net: [setattr(p, "pc", torch.nn.Parameter(p.pc.clone())) for p in net.pcoders] and net,
}


@pytest.mark.parametrize("way", COPIES)
def test_copies_hold_and_use_the_same(way: str) -> None:
    net = make(feedforward=0.123456789, pc=0.0)
    net.hyperparameters[1].pc = 0.25
    with torch.no_grad():
        expected = net(X, 3)
    other = COPIES[way](net)
    with torch.no_grad():
        torch.testing.assert_close(other(X, 3), expected)
        other.hyperparameters[1].pc = 0.5
        assert not torch.allclose(other(X, 3), expected)
    assert float(other.pcoders[1].pc) == 0.5


def test_numbers_are_read_as_they_were_set() -> None:
    net = make(feedforward=0.1, pc=1 / 3)
    assert net.hyperparameters[0].values() == {"feedforward": 0.1, "feedback": 0.2, "pc": 1 / 3}
    assert net.double().hyperparameters[0].pc == 1 / 3
    assert float(net.pcoders[0].pc) == 1 / 3, "made double, it is as exact as it was set"
    other = make()
    other.load_state_dict(make(feedforward=0.1).state_dict())
    assert other.hyperparameters[0].feedforward == 0.1, "read back from single precision"
    net.hyperparameters[0].pc = np.float32(0.5)
    assert net.hyperparameters[0].pc == 0.5
    for wrong in (True, "0.3", None, torch.tensor(0.3)):
        with pytest.raises(UserError, match="must be a finite number"):
            net.hyperparameters[0].pc = wrong  # type: ignore[assignment]
    with pytest.raises(AttributeError, match="hyperparameters are feedforward, feedback, pc, not 'feedbck'"):
        net.hyperparameters[0].feedbck = 0.3  # type: ignore[attr-defined]


class Watch(TorchDispatchMode):
    """Names of the operations that make a device wait, or move something to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if any(part in name for part in ("_local_scalar_dense", "nonzero", "aten::item", "is_nonzero")):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("pc", [0.0, 0.7])
def test_no_value_is_looked_at_while_unrolling(pc: float) -> None:
    net = make(pc=pc)
    net.double()
    with torch.no_grad(), Watch() as watch:
        net.pcoders[0].feedback.mul_(0.5)  # not known any more
        net(X.double(), 4)
        assert watch.seen == []
        assert net.hyperparameters[0].feedback == pytest.approx(0.1)
        assert watch.seen, "reading it as a number is what waits, once"
        watch.seen.clear()
        assert net.hyperparameters[0].feedback == pytest.approx(0.1)
        net(X.double(), 4)
        assert watch.seen == []


def test_a_term_that_is_trained_from_zero_has_a_gradient_and_one_that_is_not_is_skipped() -> None:
    net = make(pc=0.0).requires_grad_(False)
    predictor = calls(net.pcoders[0].predictor)
    net(X, 2)
    assert predictor == []
    net.pcoders[0].pc.requires_grad_()
    net(X, 2)[-1].sum().backward()
    assert predictor == [2, 2]
    assert net.pcoders[0].pc.grad is not None
    assert float(net.pcoders[0].pc.grad) != 0


def test_a_compiled_network_sees_what_is_set() -> None:
    net = make()
    compiled = torch.compile(net, backend="aot_eager")
    with torch.no_grad():
        for pc in (0.7, 0.3, 0.0, 0.2):
            for values in net.hyperparameters:
                values.pc = pc
            torch.testing.assert_close(compiled(X, 2), net(X, 2))
        for pcoder in net.pcoders:
            pcoder.pc.fill_(0.5)
        torch.testing.assert_close(compiled(X, 2), net(X, 2))


def test_kernels_follow_the_weights() -> None:
    """Of upsampling and convolution as one map, kernels are made of the weights once per unroll, not kept beyond it."""
    layers = "Sequential(Upsample(scale_factor=2, mode='bilinear'), ConvTranspose2d(16, 3, 3, padding=1))"
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 2, 2), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    net = pcbench.predify(
        backbone, {"input_size": [3, 8, 8], "pcoders": [{"module": "0", "predictor": layers}]}
    ).double()
    convolution = net.pcoders[0].predictor[1]

    def holds(net: PredictiveNet) -> None:
        with torch.no_grad():
            step = list(net.unroll(X.double(), 2))[-1]
            expected = net.pcoders[0].predictor(step.representations[0])
        torch.testing.assert_close(step.predictions[0], expected)

    holds(net)
    torch.optim.SGD([convolution.weight], 1.0)
    convolution.weight.grad = torch.ones_like(convolution.weight)
    torch.optim.SGD([convolution.weight], 1.0).step()
    holds(net)
    net.load_state_dict({name: torch.randn_like(value) for name, value in net.state_dict().items()})
    holds(net)
    convolution.weight.data.mul_(2)
    holds(net)
    holds(copy.deepcopy(net))
    holds(pickle.loads(pickle.dumps(net)))
    net.pcoders[0].predictor[1] = torch.nn.ConvTranspose2d(16, 3, 3, padding=1).double()
    holds(net)
