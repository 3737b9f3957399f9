"""Gradients of the unrolled network: exact through every term, the published truncation by name."""

import pytest
import torch
from networks import Chain, Residual, Untraceable, randomise
from torch import Tensor

import pcbench
from pcbench.models.base import Preprocessing
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.network import PredictiveNet

SMOOTH = "Sequential(ConvTranspose2d(6, 4, 4, 2, 1), Tanh())"  # differentiated through autograd
CLOSED = "Sequential(Upsample(scale_factor=2, mode='bilinear'), ConvTranspose2d(6, 4, 3, padding=1))"
RELU = "Sequential(ConvTranspose2d(6, 4, 4, 2, 1), ReLU(inplace=True))"


def make(predictor: str = CLOSED, scaling: bool = True) -> PredictiveNet:
    values = {"feedforward": 0.3, "feedback": 0.3, "pc": 0.8}
    config = {
        "gradient_scaling": scaling,
        "input_size": [3, 6, 6],
        "pcoders": [
            {"module": "features[1]", "hyperparameters": values},
            {"module": "features[2]", "predictor": predictor, "hyperparameters": values},
            {"module": "features[5]", "hyperparameters": values},
        ],
    }
    return pcbench.predify(randomise(Chain()), config).double().requires_grad_(False)


@pytest.mark.parametrize("gradcheck", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@pytest.mark.parametrize("predictor", [SMOOTH, CLOSED, RELU])
def test_gradient_of_the_input_agrees_with_finite_differences(gradcheck, predictor):
    net = make(predictor)
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 1, 5, dtype=torch.float64)
    assert gradcheck(lambda x: (net(x, timesteps=2) * weights).sum(), x, eps=1e-6, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("predictor", [SMOOTH, CLOSED, RELU])
@pytest.mark.parametrize("scaling", [False, True])
def test_gradients_of_predictors_and_hyperparameters_agree_with_finite_differences(predictor, scaling):
    net = make(predictor, scaling)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    weights = torch.randn(4, 2, 5, dtype=torch.float64)
    weight = next(net.pcoders[1].predictor.parameters())
    tensors = [torch.tensor(value, dtype=torch.float64) for value in (0.3, 0.25, 0.7)]

    def loss(w: Tensor, b: Tensor, feedback: Tensor, a: Tensor) -> Tensor:
        weight.data = w.detach()
        name = next(name for name, parameter in net.named_parameters() if parameter is weight)
        values = {"pcoders.1.feedforward": b, "pcoders.1.feedback": feedback, "pcoders.1.pc": a}
        return (torch.func.functional_call(net, {name: w, **values}, (x, 3)) * weights).sum()

    inputs = [weight.detach().clone().requires_grad_(True), *[t.requires_grad_(True) for t in tensors]]
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-6, fast_mode=True)


def test_the_error_term_is_differentiated_and_the_truncation_is_not():
    net = make()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    found = {}
    for gradient in ("exact", "truncated"):
        logits = net(x, timesteps=3, gradient=gradient)
        (found[gradient],) = torch.autograd.grad(logits[-1].square().sum(), x)
        found[f"{gradient} logits"] = logits.detach()
    assert torch.equal(found["exact logits"], found["truncated logits"])
    assert not torch.allclose(found["exact"], found["truncated"], rtol=1e-3)


def test_the_truncation_is_exact_when_there_is_no_error_term():
    net = make()
    for values in net.hyperparameters:
        values.pc = 0.0
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    grads = [torch.autograd.grad(net(x, 3, gradient=g).square().sum(), x)[0] for g in ("exact", "truncated")]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("gradient", ["exact", "truncated"])
@pytest.mark.parametrize("predictor", [SMOOTH, CLOSED])
def test_checkpointing_changes_no_gradient(predictor, gradient):
    net = make(predictor)
    model = PredictiveClassifier(net, 5, Preprocessing((6, 6), (0.5,) * 3, (0.2,) * 3), timesteps=3).double()
    x = torch.rand(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    grads = []
    for checkpointing in (False, True):
        with model.differentiated(gradient, checkpointing):
            grads.append(torch.autograd.grad(model(x).square().sum(), x)[0])
    torch.testing.assert_close(*grads)


def test_checkpointing_stores_less():
    net = make()
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    stored = {}
    for checkpointing in (False, True):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            net(x, 5, checkpointing=checkpointing)
        stored[checkpointing] = sum(sizes)
    assert stored[True] < stored[False] / 2


@pytest.mark.parametrize("backbone", [Residual, Untraceable])
def test_gradients_flow_through_other_ways_of_cutting(backbone):
    modules = ["bn", "left"] if backbone is Residual else ["one", "two"]
    tables = [{"module": m, "hyperparameters": {"feedforward": 0.4, "feedback": 0.2, "pc": 0.5}} for m in modules]
    net = pcbench.predify(randomise(backbone()), {"input_size": [3, 6, 6], "pcoders": tables}).double()
    net.requires_grad_(False)
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: net(x, timesteps=2).sum(), x, eps=1e-6, atol=1e-6, fast_mode=True)
