"""The unrolled network against the equations, written down word for word in reference.py."""

import copy
from pathlib import Path

import pytest
import torch
from networks import Aliasing, Chain, Overwriting, Residual, Untraceable, calls, randomise
from reference import reference
from torch import nn

import pcbench
from pcbench.errors import UserError
from pcbench.models.predictive.network import PredictiveNet
from pcbench.models.resolve import load_model
from pcbench.models.spec import MODELS

HYPERPARAMETERS = [(0.3, 0.2, 0.9), (0.5, 0.3, 0.7), (0.4, 0.1, 0.8)]


def table(module, predictor=None, values=(0.3, 0.2, 0.9)):
    names = ("feedforward", "feedback", "pc")
    entry = {"module": module, "hyperparameters": dict(zip(names, values, strict=True))}
    return entry if predictor is None else {**entry, "predictor": predictor}


def compare(net: PredictiveNet, backbone: nn.Module, x: torch.Tensor, timesteps: int, tolerance=1e-5):
    """Hold every tensor of every timestep against the reference; the tolerance is relative to its largest value."""
    values = [(h.feedforward, h.feedback, h.pc) for h in net.hyperparameters]
    reach = [round(float(p.C_sqrt) ** 2) for p in net.pcoders] if net.scaling == "kc" else None
    expected = reference(
        backbone, [t.path for t in net.config.pcoders], [p.predictor for p in net.pcoders], values, x, timesteps, reach
    )
    with torch.no_grad():
        logits = net(x, timesteps=timesteps)
        steps = list(net.unroll(x, timesteps=timesteps))
    assert logits.shape[0] == len(steps) == timesteps + 1
    for t, (step, slow) in enumerate(zip(steps, expected, strict=True)):
        assert step.t == t
        for found, right in (
            (logits[t], slow.logits),
            (step.logits, slow.logits),
            *zip(step.representations, slow.e, strict=True),
            *zip(step.predictions, slow.p, strict=True),
            *zip(step.errors, slow.eps, strict=True),
        ):
            assert found.shape == right.shape
            assert float((found - right).detach().abs().max()) <= tolerance * float(right.detach().abs().max())
    return logits


PREDICTORS = {
    "plain": ("ConvTranspose2d(4, 3, 5, padding=2)", "ConvTranspose2d(6, 4, 4, stride=2, padding=1)"),
    "relu": (
        "Sequential(ConvTranspose2d(4, 3, 3, padding=1), ReLU())",
        "Sequential(ConvTranspose2d(6, 4, 6, 2, 2), ReLU(inplace=True))",
    ),
    "output padding": ("Conv2d(4, 3, 3, padding=1)", "ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1)"),
    "upsampling": (
        "Sequential(ConvTranspose2d(4, 3, 3, padding=1))",
        "Sequential(Upsample(scale_factor=2, mode='bilinear'), ConvTranspose2d(6, 4, 3, padding=1))",
    ),
    "aligned corners": (
        "Sequential(Conv2d(4, 4, 3, 1, 1), Identity(), ConvTranspose2d(4, 3, 1))",
        "Sequential(Upsample(scale_factor=2, mode='bilinear', align_corners=True), Conv2d(6, 4, 3, padding=1), ReLU())",
    ),
    "nearest": (
        "Sequential(Conv2d(4, 6, 4, stride=2, padding=1), ConvTranspose2d(6, 3, 4, 2, 1))",
        "Sequential(Upsample(scale_factor=2), ConvTranspose2d(6, 4, 3, padding=1, groups=2), ReLU())",
    ),
    "no closed form": (
        "Sequential(ReLU(inplace=True), ConvTranspose2d(4, 3, 3, padding=1), Tanh())",
        "Sequential(ConvTranspose2d(6, 4, 4, 2, 1), BatchNorm2d(4), GELU(), Conv2d(4, 4, 1))",
    ),
    "default": (None, None),
}


@pytest.mark.parametrize("scaling", ["none", "kc"])
@pytest.mark.parametrize("kind", PREDICTORS)
def test_every_timestep_is_the_equations(kind, scaling):
    backbone = randomise(Chain()).requires_grad_(False)
    one, two = PREDICTORS[kind]
    config = {
        "gradient_scaling": scaling == "kc",
        "input_size": [3, 8, 8],
        "pcoders": [
            table("features[1]", one, HYPERPARAMETERS[0]),
            table("features[2]", two, HYPERPARAMETERS[1]),
            table("features[5]", "ConvTranspose2d(8, 6, 3, padding=1)", HYPERPARAMETERS[2]),
        ],
    }
    net = pcbench.predify(backbone, config)
    assert net.scaling == scaling
    for batch in (1, 2, 7):
        x = torch.randn(batch, 3, 8, 8)
        logits = compare(net, backbone, x, 3)
        torch.testing.assert_close(logits[0], backbone(x), rtol=0, atol=0)
        assert not torch.allclose(logits[1], logits[3])


HARD = {
    "residual": (Residual, ["bn", "left", "right"], True),
    "out of order": (Residual, ["right", "bn", "left"], True),
    "overwriting": (Overwriting, ["one", "two"], True),
    "aliasing": (Aliasing, ["one", "two"], False),
    "untraceable": (Untraceable, ["one", "two"], False),
}


@pytest.mark.parametrize("case", HARD)
def test_backbones_that_are_no_chain_or_overwrite_tensors(case):
    make, modules, traced = HARD[case]
    backbone = randomise(make())
    config = {"gradient_scaling": True, "input_size": [3, 8, 8], "pcoders": [table(module) for module in modules]}
    net = pcbench.predify(backbone, config)
    assert net.caches_first_stage == traced
    x = torch.randn(2, 3, 8, 8)
    before = x.clone()
    compare(net, backbone, x, 3)
    assert torch.equal(x, before)


def test_grey_and_oblong_inputs():
    backbone = randomise(Chain(channels=1))
    config = {
        "input_size": [1, 8, 12],
        "pcoders": [table(module) for module in ("features[1]", "features[2]", "features[5]")],
    }
    compare(pcbench.predify(backbone, config), backbone, torch.randn(2, 1, 8, 12), 2)


def test_sizes_without_a_whole_ratio():
    backbone = randomise(Chain())
    config = {"input_size": [3, 9, 7], "pcoders": [table("features[1]"), table("features[2]")]}
    compare(pcbench.predify(backbone, config), backbone, torch.randn(2, 3, 9, 7), 2)


REGISTERED = {
    "pvgg16": 32,
    "pefficientnet-b0": 64,
    "pefficientnet-lite0": 64,
    "pefficientnet-lite1": 48,  # their predictors are for images whose stages have odd sides in the same places
    "pefficientnet-lite2": 36,
    "presnet18": 64,
    "presnet18-cifar": 32,
    "presnet50": 64,
    "pvgg16-cifar": 32,
}


def test_every_registered_predictive_network_is_held_against_the_equations():
    assert {name for name, spec in MODELS if spec.family == "predictive"} == set(REGISTERED)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n == "pvgg16" else n for n in REGISTERED])
def test_registered_networks_are_the_equations(name):
    model = load_model(name, "random")
    net = copy.deepcopy(model.network)
    net.scaling = "kc"
    for values in net.hyperparameters:
        values.pc = 0.3  # strong enough to be seen beside feedback
    x = torch.randn(1, 3, REGISTERED[name], REGISTERED[name])
    compare(net, net.backbone, x, 4, tolerance=2e-5)


@pytest.mark.parametrize("name", ["pvgg16", "pefficientnet-b0"])
def test_published_configurations_give_the_published_shapes(name):
    net = load_model(name, "random").network
    reach = [round(float(pcoder.C_sqrt) ** 2) for pcoder in net.pcoders]
    count = sum(parameter.numel() for pcoder in net.pcoders for parameter in pcoder.parameters())
    if name == "pvgg16":
        assert reach == [75, 6400, 25088, 50176, 100352]
        assert round(count / 1e6, 1) == 84.3
    else:
        assert reach[:2] == [6 * 6 * 3, 3 * 3 * 32]
        assert round(count / 1e6, 3) == 0.874


def chain_config(**more):
    modules = ("features[1]", "features[2]", "features[5]")
    tables = [table(module, None, values) for module, values in zip(modules, HYPERPARAMETERS, strict=True)]
    return {"gradient_scaling": True, "input_size": [3, 8, 8], "pcoders": tables, **more}


def test_an_image_s_result_does_not_depend_on_its_batch():
    net = pcbench.predify(randomise(Chain()), chain_config(gradient_scaling=False))
    x = torch.randn(5, 3, 8, 8)
    with torch.inference_mode():
        together = net(x, timesteps=4)
        alone = torch.cat([net(x[i : i + 1], timesteps=4) for i in range(5)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_memory_alone_changes_nothing_bit_for_bit():
    net = pcbench.predify(randomise(Chain()), chain_config())
    for values in net.hyperparameters:
        values.feedback, values.pc = 0.0, 0.0
    with torch.inference_mode():
        logits = net(torch.randn(3, 3, 8, 8), timesteps=5)
    assert all(torch.equal(row, logits[0]) for row in logits)


def test_first_stage_runs_once_and_each_predictor_as_often_as_it_is_needed():
    net = pcbench.predify(randomise(Chain()), chain_config())
    first, second = calls(net.backbone.features[0]), calls(net.backbone.features[2])
    predictors = [calls(pcoder.predictor) for pcoder in net.pcoders]
    x = torch.randn(4, 3, 8, 8)
    with torch.inference_mode():
        net(x, timesteps=3)
    assert first == [4]
    assert second == [4] * 4
    assert predictors == [[4] * 3] * 3
    for values in net.hyperparameters:
        values.pc = 0.0
    with torch.inference_mode():
        net(x, timesteps=3)
    assert [len(seen) for seen in predictors] == [3, 6, 6], "without error, nothing needs PCoder 1's prediction"
    net.hyperparameters[0].feedback = 0.0
    with torch.inference_mode():
        net(x, timesteps=3)
    assert [len(seen) for seen in predictors] == [3, 6, 9], "p_2 has no use either when PCoder 1 has no feedback"


def test_no_gradient_is_computed_without_error_term(monkeypatch):
    net = pcbench.predify(randomise(Chain()), chain_config())
    for values in net.hyperparameters:
        values.pc = 0.0
    monkeypatch.setattr("pcbench.models.predictive.state.State.ascent", lambda *_: pytest.fail("computed a gradient"))
    with torch.inference_mode():
        net(torch.randn(2, 3, 8, 8), timesteps=2)


def test_reading_predictions_while_unrolling_costs_no_second_call():
    net = pcbench.predify(randomise(Chain()), chain_config())
    predictors = [calls(pcoder.predictor) for pcoder in net.pcoders]
    with torch.inference_mode():
        for step in net.unroll(torch.randn(2, 3, 8, 8), timesteps=3):
            assert len(step.predictions) == len(step.errors) == 3
    assert [len(seen) for seen in predictors] == [4, 4, 4]


def test_no_autograd_graph_in_inference():
    net = pcbench.predify(randomise(Chain()), chain_config())
    with torch.no_grad():
        for step in net.unroll(torch.randn(2, 3, 8, 8), timesteps=2):
            for tensor in (step.logits, *step.representations, *step.predictions, *step.errors):
                assert tensor.grad_fn is None


def test_nothing_of_a_call_stays_behind():
    net = pcbench.predify(randomise(Untraceable()), {"input_size": [3, 8, 8], "pcoders": [table("one"), table("two")]})
    before = set(vars(net)), {name: len(m._forward_hooks) for name, m in net.named_modules()}
    with torch.no_grad():
        a = net(torch.ones(2, 3, 8, 8), timesteps=2)
        steps = net.unroll(torch.randn(3, 3, 8, 8), timesteps=2)
        next(steps)
        next(steps)
        b = net(torch.ones(2, 3, 8, 8), timesteps=2)
    assert torch.equal(a, b)
    assert before == (set(vars(net)), {name: len(m._forward_hooks) for name, m in net.named_modules()})


def test_initial_noise_is_seeded_and_the_same_for_every_image():
    net = pcbench.predify(randomise(Chain()), chain_config())
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        plain = net(x, timesteps=2)
        net.initial_noise = 5
        noisy = list(net.unroll(x, timesteps=2))
        alone = list(net.unroll(x[1:2], timesteps=2))
        net.initial_noise = 6
        other = net(x, timesteps=2)
    assert not torch.allclose(plain[0], noisy[0].logits)
    assert not torch.allclose(other[0], noisy[0].logits)
    e = noisy[0].representations[0]
    assert torch.equal(e[0], e[2])
    assert abs(float(e[0].mean())) < 0.3
    assert abs(float(e[0].std()) - 1) < 0.2
    torch.testing.assert_close(noisy[2].logits[1:2], alone[2].logits, rtol=1e-5, atol=1e-6)


def test_what_c_sqrt_holds_is_what_is_used():
    net = pcbench.predify(randomise(Chain()), chain_config())
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        before = net(x, timesteps=2)
        net.pcoders[1].C_sqrt.mul_(0.5)
        after = net(x, timesteps=2)
    assert not torch.allclose(before[2], after[2], rtol=1e-6)
    compare(net, net.backbone, x, 2)


def test_hyperparameters_can_be_read_and_set():
    net = pcbench.predify(randomise(Chain()), chain_config())
    assert [(h.feedforward, h.feedback, h.pc) for h in net.hyperparameters] == HYPERPARAMETERS
    net.hyperparameters[1].feedback = 0.25
    assert net.hyperparameters[1].feedback == 0.25
    net.hyperparameters = {"feedforward": 0.6, "feedback": 0.1, "pc": 0.5}
    assert [h.values() for h in net.hyperparameters] == [{"feedforward": 0.6, "feedback": 0.1, "pc": 0.5}] * 3
    with pytest.raises(UserError, match="between 0 and 1"):
        net.hyperparameters[0].feedforward = 1.5
    with pytest.raises(UserError, match="finite"):
        net.hyperparameters[0].pc = float("nan")
    with pytest.raises(UserError, match="memory"):
        net.hyperparameters = {"feedforward": 0.6, "feedback": 0.5, "pc": 0.5}
    with pytest.raises(UserError, match="2 sets of hyperparameters for 3"):
        net.hyperparameters = [{"feedforward": 0.6, "feedback": 0.1, "pc": 0.5}] * 2


def test_shared_hyperparameters_are_the_first_pcoder_s():
    net = pcbench.predify(randomise(Chain()), chain_config(shared_hyperparameters=True))
    assert [(h.feedforward, h.feedback, h.pc) for h in net.hyperparameters] == [HYPERPARAMETERS[0]] * 3


def test_the_caller_s_backbone_is_left_untouched(tmp_path: Path):
    backbone = randomise(Chain())
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    net = pcbench.predify(backbone, chain_config())
    with torch.no_grad():
        net.backbone.head.weight.zero_()
        net(torch.randn(2, 3, 8, 8), timesteps=2)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())
    assert not any(module._forward_hooks for module in backbone.modules())
    assert not backbone.training


def test_building_in_training_mode_leaves_batch_statistics_alone():
    backbone = randomise(Chain()).train()
    mean = backbone.features[5].running_mean.clone()
    net = pcbench.predify(backbone, chain_config())
    assert net.training
    assert net.backbone.training
    assert torch.equal(net.backbone.features[5].running_mean, mean)
