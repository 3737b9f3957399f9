"""Networks with batch normalisation folded in, against the networks themselves."""

import copy
import warnings
from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers import StdConv2d
from torch import Tensor, nn

import pcbench
from pcbench.models.base import FeedforwardClassifier, Preprocessing
from pcbench.models.folding import fold_batch_norms
from pcbench.models.resolve import load_model


def trained(network: nn.Module) -> nn.Module:
    """Statistics and scales as training leaves them: none of them 0 or 1."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "count"), [("efficientnet_b0", 49), ("efficientnet_lite0", 49), ("resnet18", 20), ("regnety_002", 44)]
)
def test_the_logits_stay_the_same(name: str, count: int) -> None:
    network = trained(timm.create_model(name))
    folded = copy.deepcopy(network)
    assert len(fold_batch_norms(folded)) == count
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)


class Branches(nn.Module):
    """Normalisations that must stay: of an output read twice, of a convolution called twice, without statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.b, self.norm_b = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3, affine=False)
        self.c, self.norm_c = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)
        self.d, self.norm_d = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        a: Tensor = self.a(x)
        x = self.norm_a(a) + a
        x = self.norm_b(self.b(self.b(x)))
        x = self.norm_c(self.c(x))
        y: Tensor = self.norm_d(self.d(x))
        return y.mean((2, 3))


def test_only_what_is_one_linear_map_is_folded() -> None:
    network = trained(Branches())
    folded = copy.deepcopy(network)
    assert len(fold_batch_norms(folded)) == 1
    assert isinstance(folded.norm_d, nn.Identity)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), network(x))


def test_a_network_that_cannot_be_traced_is_left_alone() -> None:
    class Untraceable(Branches):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if float(x.sum()) > 0 else super().forward(-x)

    network = trained(Untraceable())
    assert fold_batch_norms(network) == []
    assert isinstance(network.norm_d, nn.BatchNorm2d)


def test_a_convolution_with_a_pcoder_keeps_its_output() -> None:
    backbone = trained(timm.create_model("resnet18", num_classes=5))
    config = {"input_size": [3, 32, 32], "pcoders": [{"module": "conv1"}, {"module": "layer1.0.conv1"}]}
    network = pcbench.predify(backbone, config)
    x = torch.randn(2, 3, 32, 32)
    expected = network(x, timesteps=2)
    from pcbench.models.predictive.classifier import PredictiveClassifier

    model = PredictiveClassifier(network, 5, Preprocessing((32, 32), (0.0,) * 3, (1.0,) * 3), timesteps=2).eval()
    assert model.merge_layers(torch.rand(2, 3, 32, 32)) is None
    assert isinstance(network.backbone.get_submodule("bn1"), nn.BatchNorm2d)
    assert isinstance(network.backbone.get_submodule("layer1.0.bn2"), nn.Identity)
    torch.testing.assert_close(network(x, timesteps=2), expected, rtol=1e-4, atol=1e-5)


def test_a_loaded_model_has_the_parameters_of_its_file_until_somebody_merges_layers() -> None:
    model = load_model("resnet18", "random")
    names = [name for name, _ in model.named_parameters()]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 20
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_689_512
    images = torch.rand(1, 3, 224, 224)
    before = model(images)
    assert [name for name, _ in model.named_parameters()] == names
    assert model.merge_layers(images) is None
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 0
    torch.testing.assert_close(model(images), before, rtol=1e-4, atol=1e-5)


class Scaled(nn.Conv2d):
    """A user's convolution: it looks like torch's, and computes something of its weights."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * self.weight.abs().mean()


def standardised() -> nn.Module:
    return StdConv2d(3, 4, 3, padding=1)


def weight_normalised() -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3, padding=1))


def weight_normalised_by_hook() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Conv2d(3, 4, 3, padding=1))


def overridden() -> nn.Module:
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    plain = convolution.forward
    convolution.forward = lambda x: 2 * plain(x)  # type: ignore[method-assign]
    return convolution


def watched_from_within() -> nn.Module:
    convolution = nn.Conv2d(3, 4, 3, padding=1)
    convolution.register_forward_hook(lambda module, inputs, output: output * 2)
    return convolution


STRANGERS = [lambda: Scaled(3, 4, 3, padding=1), standardised, weight_normalised, weight_normalised_by_hook]
STRANGERS += [overridden, watched_from_within]


def classifier(convolution: nn.Module, norm: nn.Module | None = None) -> FeedforwardClassifier:
    layers = [convolution, norm or nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)]
    network = trained(nn.Sequential(*layers))
    return FeedforwardClassifier(network, 5, Preprocessing((8, 8), (0.5,) * 3, (0.2,) * 3)).eval()


@pytest.mark.parametrize("make", STRANGERS)
def test_a_convolution_of_another_kind_keeps_its_normalisation(make: Callable[[], nn.Module]) -> None:
    model = classifier(make())
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        expected = model(images)
        assert model.merge_layers(images) is None
        assert isinstance(model.network[1], nn.BatchNorm2d)
        assert torch.equal(model(images), expected)


def test_a_normalisation_of_another_kind_stays() -> None:
    class Doubling(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    model = classifier(nn.Conv2d(3, 4, 3, padding=1), Doubling(4))
    assert model.merge_layers(torch.rand(2, 3, 8, 8)) is None
    assert type(model.network[1]) is Doubling


class ReadsItsWeights(nn.Module):
    """Looks at the weights of its convolution, which no trace of calls shows to matter."""

    def __init__(self, through: str) -> None:
        super().__init__()
        self.conv, self.bn, self.through = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), through

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x)).mean((2, 3))
        if self.through == "attribute":
            return y * self.conv.weight.abs().mean()
        return y * sum(p.abs().mean() for p in self._modules["conv"]._parameters.values() if p is not None)


@pytest.mark.parametrize("through", ["attribute", "back door"])
def test_merging_that_would_change_the_answers_is_refused_and_undone(through: str) -> None:
    network = trained(ReadsItsWeights(through))
    model = FeedforwardClassifier(network, 4, Preprocessing((8, 8), (0.5,) * 3, (0.2,) * 3)).eval()
    model.name = "mine"
    images, before = torch.rand(2, 3, 8, 8), dict(model.named_parameters())
    with torch.no_grad():
        expected = model(images)
        notice = model.merge_layers(images)
        assert torch.equal(model(images), expected)
    if through == "back door":
        assert notice is not None
        assert notice.startswith("mine: normalisations stay apart from the convolutions before them: its logits would")
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


def test_a_merged_network_that_fails_is_put_back() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.conv(x)).mean((2, 3)) + 0 * self._modules["bn"].__dict__["_buffers"]["running_mean"]

    model = FeedforwardClassifier(trained(Asks()), 4, Preprocessing((8, 8), (0.5,) * 3, (0.2,) * 3)).eval()
    notice = model.merge_layers(torch.rand(2, 3, 8, 8))
    assert notice is not None
    assert "the merged" in notice or "running_mean" in notice
    assert isinstance(model.network.bn, nn.BatchNorm2d)


def test_weights_held_in_bfloat16_are_those_that_autocast_makes() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm(6), nn.Flatten(), nn.Linear(144, 5))
    model = (
        FeedforwardClassifier(network, 5, Preprocessing((8, 8), (0.5,) * 3, (0.2,) * 3)).eval().requires_grad_(False)
    )
    x = torch.rand(2, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(x)
        model.hold_weights_in(torch.bfloat16)
        found = model(x)
    assert {name for name, value in model.named_parameters() if value.dtype == torch.bfloat16} == {
        "network.0.weight", "network.0.bias", "network.3.weight", "network.3.bias"
    }  # fmt: skip
    assert torch.equal(found, expected)
