"""Networks with batch normalisation folded in, against the networks themselves."""

import copy

import pytest
import timm
import torch
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
    assert fold_batch_norms(folded) == count
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
    assert fold_batch_norms(folded) == 1
    assert isinstance(folded.norm_d, nn.Identity)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), network(x))


def test_a_network_that_cannot_be_traced_is_left_alone() -> None:
    class Untraceable(Branches):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if float(x.sum()) > 0 else super().forward(-x)

    network = trained(Untraceable())
    assert fold_batch_norms(network) == 0
    assert isinstance(network.norm_d, nn.BatchNorm2d)


def test_a_convolution_with_a_pcoder_keeps_its_output() -> None:
    backbone = trained(timm.create_model("resnet18", num_classes=5))
    config = {"input_size": [3, 32, 32], "pcoders": [{"module": "conv1"}, {"module": "layer1.0.conv1"}]}
    network = pcbench.predify(backbone, config)
    x = torch.randn(2, 3, 32, 32)
    expected = network(x, timesteps=2)
    from pcbench.models.predictive.classifier import PredictiveClassifier

    model = PredictiveClassifier(network, 5, Preprocessing((32, 32), (0.0,) * 3, (1.0,) * 3), timesteps=2).eval()
    model.merge_layers()
    assert isinstance(network.backbone.get_submodule("bn1"), nn.BatchNorm2d)
    assert isinstance(network.backbone.get_submodule("layer1.0.bn2"), nn.Identity)
    torch.testing.assert_close(network(x, timesteps=2), expected, rtol=1e-4, atol=1e-5)


def test_models_are_loaded_as_published_and_merged_on_demand() -> None:
    merged, published = (load_model("resnet18", "random") for _ in range(2))
    merged.merge_layers()
    assert sum(isinstance(module, nn.BatchNorm2d) for module in merged.modules()) == 0
    assert sum(isinstance(module, nn.BatchNorm2d) for module in published.modules()) == 20
    assert sum(parameter.numel() for parameter in published.parameters()) == 11_689_512


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
