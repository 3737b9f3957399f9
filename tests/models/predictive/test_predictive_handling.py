"""What people do with a network besides running it: copying, pickling, saving, compiling, moving, casting."""

import copy
import io
import pickle
import shutil

import pytest
import timm
import torch
from networks import Aliasing, Chain, Overwriting, Residual, Untraceable, randomise

import pcbench
from pcbench.models.base import Preprocessing
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.network import PredictiveNet

BACKBONES = {
    "chain": (Chain, ["features[1]", "features[2]", "features[5]"]),
    "residual": (Residual, ["bn", "left", "right"]),
    "overwriting": (Overwriting, ["one", "two"]),
    "aliasing": (Aliasing, ["one", "two"]),
    "untraceable": (Untraceable, ["one", "two"]),
}
SMOOTH = "Sequential(ConvTranspose2d(4, 3, 3, padding=1), Tanh())"

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")


def make(kind: str, predictor: str | None = None) -> PredictiveNet:
    backbone, modules = BACKBONES[kind]
    values = {"feedforward": 0.4, "feedback": 0.2, "pc": 0.5}
    tables = [{"module": module, "hyperparameters": values} for module in modules]
    if predictor is not None:
        tables[0]["predictor"] = predictor
    config = {"gradient_scaling": True, "input_size": [3, 8, 8], "pcoders": tables}
    return pcbench.predify(randomise(backbone()), config)


def saved_and_loaded(net):
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("way", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), saved_and_loaded])
def test_a_copy_is_the_same_and_its_own(kind, way):
    net = make(kind)
    net.hyperparameters[0].feedback = 0.35
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        expected = net(x, timesteps=3)
        other = way(net)
        assert torch.equal(other(x, timesteps=3), expected)
        assert other.caches_first_stage == net.caches_first_stage
        for parameter in other.parameters():
            parameter.zero_()
        other.hyperparameters[0].feedback = 0.0
        assert torch.equal(net(x, timesteps=3), expected)
        assert float(other(x, timesteps=3).abs().max()) == 0.0


def test_a_state_dict_goes_round():
    net, other = make("chain"), make("chain")
    names = list(net.state_dict())
    assert {name.partition(".")[0] for name in names} == {"backbone", "pcoders"}
    assert {"pcoders.0.predictor.weight", "pcoders.2.C_sqrt", "backbone.head.weight"} <= set(names)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert not torch.equal(net(x, timesteps=2), other(x, timesteps=2))
        other.load_state_dict(net.state_dict())
        assert torch.equal(net(x, timesteps=2), other(x, timesteps=2))


@pytest.mark.parametrize("predictor", [None, SMOOTH])
def test_inference_mode_gives_what_no_grad_gives(predictor):
    net = make("chain", predictor)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = net(x, timesteps=3)
    with torch.inference_mode():
        found = net(x, timesteps=3)
        assert all(not tensor.requires_grad for step in net.unroll(x, 1) for tensor in step.predictions)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("chain", "aot_eager"),
        ("residual", "aot_eager"),
        pytest.param("residual", "inductor", marks=[pytest.mark.slow, NEEDS_COMPILER]),
    ],
)
def test_a_compiled_network_gives_the_same(kind, backend):
    net = make(kind)
    compiled = torch.compile(net, backend=backend)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, timesteps=3), net(x, timesteps=3))
        torch.testing.assert_close(compiled(x[:1], timesteps=3), net(x[:1], timesteps=3))


@pytest.mark.parametrize("predictor", [None, SMOOTH])
def test_bfloat16_autocast_stays_close_to_float32(predictor):
    net = make("chain", predictor)
    x = torch.randn(4, 3, 8, 8)
    with torch.inference_mode():
        expected = net(x, timesteps=4)
        with torch.autocast("cpu", torch.bfloat16):
            found = net(x, timesteps=4)
    assert float((found.float() - expected).norm() / expected.norm()) < 0.02


def test_double_precision():
    net = make("chain").double()
    with torch.inference_mode():
        assert net(torch.randn(1, 3, 8, 8, dtype=torch.float64), timesteps=2).dtype == torch.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_gives_what_the_cpu_gives(dtype):
    net = make("chain")
    x = torch.randn(4, 3, 8, 8)
    with torch.inference_mode():
        expected = net(x, timesteps=4)
        net = net.cuda()
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            found = net(x.cuda(), timesteps=4).cpu().float()
    assert float((found - expected).norm() / expected.norm()) < (1e-4 if dtype == torch.float32 else 0.02)


def test_channels_last_changes_nothing_but_rounding():
    net = make("chain")
    x = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        expected = net(x, timesteps=3)
        found = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), timesteps=3)
    torch.testing.assert_close(found, expected)


def test_batches_of_any_size_one_after_the_other():
    net = make("chain")
    x = torch.randn(7, 3, 8, 8)
    with torch.inference_mode():
        whole = net(x, timesteps=2)
        for size in (1, 5, 2):
            torch.testing.assert_close(net(x[:size], timesteps=2), whole[:, :size])


def test_a_timm_network_in_five_lines():
    backbone = timm.create_model("resnet18", num_classes=10).eval()
    config = {"input_size": [3, 32, 32], "pcoders": [{"module": f"layer{n}"} for n in (1, 2, 3, 4)]}
    net = pcbench.predify(backbone, config)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert net(x, timesteps=2).shape == (3, 2, 10)
        torch.testing.assert_close(net(x, timesteps=2)[0], backbone(x), rtol=0, atol=0)


def test_as_a_classifier_of_images():
    model = PredictiveClassifier(make("chain"), 5, Preprocessing((8, 8), (0.5,) * 3, (0.25,) * 3), timesteps=3)
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        logits = model(images)
        assert logits.shape == (4, 2, 5)
        torch.testing.assert_close(logits[1:2], model.network((images - 0.5) / 0.25, 1)[1:])
        torch.testing.assert_close(model.at(2)(images), logits[2])
    assert model.gradients == ("exact", "truncated")
    assert torch.equal(copy.deepcopy(model)(images), model(images))
