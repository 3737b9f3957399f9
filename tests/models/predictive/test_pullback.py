"""Pullbacks of predictors of every kind, against autograd through the predictor itself, and differentiated again."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcbench.models.predictive.bilinear import Bilinear
from pcbench.models.predictive.pullback import prepared


class Scaled(nn.ConvTranspose2d):
    """A user's subclass, whose forward is not its class's."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(input, output_size) * self.weight.abs().mean()


class Leaking(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return torch.where(input > 0, input, 0.1 * input)


class Shifted(nn.Upsample):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(torch.roll(input, 1, -1))


class Free(nn.Module):
    """Nothing of torch.nn's: a product of the input with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(3, 4) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("oc,bchw->bohw", self.mix, torch.sin(x) * x.flip(2))


def overridden() -> nn.Module:
    layer = nn.ConvTranspose2d(4, 3, 3, padding=1)
    plain = layer.forward
    layer.forward = lambda x: plain(x) ** 2  # type: ignore[method-assign]
    return layer


def hooked() -> nn.Module:
    layer = nn.Conv2d(4, 3, 3, padding=1)
    layer.register_forward_hook(lambda module, inputs, output: output * 2)
    return nn.Sequential(nn.Identity(), layer)


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones_like(x[:, :3].detach())


def sequential(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


MAKERS = {
    "transposed": lambda: nn.ConvTranspose2d(4, 3, 4, 2, 1),
    "convolution": lambda: nn.Conv2d(4, 3, 3, 2, 1, groups=1),
    "relu in the middle": lambda: sequential(nn.ConvTranspose2d(4, 5, 3), nn.ReLU(inplace=True), nn.Conv2d(5, 3, 3)),
    "leading in-place relu": lambda: sequential(nn.ReLU(inplace=True), nn.ConvTranspose2d(4, 3, 3, padding=1)),
    "only a relu": lambda: nn.ReLU(inplace=True),
    "in place": lambda: sequential(nn.Conv2d(4, 4, 1), nn.ELU(inplace=True), nn.Conv2d(4, 3, 1)),
    "identity": nn.Identity,
    "nothing": nn.Sequential,
    "bilinear": lambda: sequential(nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.Conv2d(4, 3, 3)),
    "bilinear to a size": lambda: nn.Upsample(size=(7, 4), mode="bilinear"),
    "aligned corners": lambda: sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Tanh()),
    "recomputed": lambda: nn.Upsample(scale_factor=1.7, mode="bilinear", recompute_scale_factor=True),
    "nearest": lambda: sequential(nn.Upsample(scale_factor=2), nn.ConvTranspose2d(4, 3, 3)),
    "upconvolution": lambda: sequential(
        nn.Conv2d(4, 9, 1), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(9, 1, 3, padding=1), nn.ReLU()
    ),
    "bicubic": lambda: nn.Upsample(scale_factor=2, mode="bicubic"),
    "same padding": lambda: nn.Conv2d(4, 3, 3, padding="same"),
    "reflecting": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
    "subclass": lambda: Scaled(4, 3, 3, padding=1),
    "subclass after upsampling": lambda: sequential(
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 20, 1), Scaled(20, 1, 3, padding=1)
    ),
    "subclass of a relu": lambda: sequential(nn.ConvTranspose2d(4, 3, 3), Leaking()),
    "subclass of upsampling": lambda: sequential(Shifted(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 3, 3)),
    "weight-normalised": lambda: nn.utils.parametrizations.weight_norm(nn.ConvTranspose2d(4, 3, 3)),
    "any module": Free,
    "any module in a chain": lambda: sequential(nn.ConvTranspose2d(4, 4, 3), Free(), nn.ReLU(), nn.Conv2d(3, 3, 3)),
    "forward of its own": overridden,
    "hooked": hooked,
    "constant": Constant,
}  # fmt: skip


def make(name: str) -> nn.Module:
    torch.manual_seed(3)
    return MAKERS[name]().double()


@pytest.mark.parametrize("name", MAKERS)
def test_values_and_pullback_are_autograd_s(name: str) -> None:
    predictor = make(name)
    e = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    x = e.clone().requires_grad_()
    expected = predictor(x * 1)
    v = torch.randn_like(expected)
    right = torch.autograd.grad(expected, x, v)[0] if expected.requires_grad else torch.zeros_like(e)
    before = e.clone()
    with torch.no_grad():
        p, pullback = prepared(predictor)(e)
        torch.testing.assert_close(p, expected)
        torch.testing.assert_close(pullback(v), right)
    assert torch.equal(e, before), "the representation was overwritten"
    with torch.inference_mode():
        e_inference = e.clone()
        p, pullback = prepared(predictor)(e_inference)
        torch.testing.assert_close(pullback(v.clone()), right)
        made_here = copy.deepcopy(predictor)
        if name not in ("forward of its own", "hooked"):
            torch.testing.assert_close(prepared(made_here)(e_inference)[1](v.clone()), right)


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "constant"])
def test_pullbacks_are_differentiable_in_everything(name: str) -> None:
    predictor = make(name)
    e = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    weights = list(predictor.parameters())

    def cubic(e: Tensor, *_: Tensor) -> Tensor:
        p, pullback = prepared(predictor)(e * 1)
        return (pullback(p**2) * e).sum() + p.sum()

    assert torch.autograd.gradcheck(cubic, (e, *weights), fast_mode=True)


def test_the_fault_of_a_subclass_is_as_large_as_it_was() -> None:
    """The closed form of its class is far from a subclass's gradient, so the tests above can tell them apart."""
    predictor = make("subclass")
    assert isinstance(predictor, Scaled)
    v = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    found = prepared(predictor)(torch.randn(1, 4, 5, 5, dtype=torch.float64))[1](v)
    closed = F.conv2d(v, predictor.weight, None, predictor.stride, predictor.padding)
    assert float((closed - found).abs().max() / found.abs().max()) > 0.5


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (7, 5)])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Upsample(scale_factor=(3, 1.5), mode="bilinear"),
        nn.Upsample(size=(11, 9), mode="bilinear"),
        nn.Upsample(size=8, mode="bilinear", align_corners=True),
        nn.Upsample(size=(2, 3), mode="bilinear"),
    ],
)
def test_the_adjoint_of_bilinear_upsampling(layer: nn.Upsample, size: tuple[int, int]) -> None:
    both = Bilinear(layer)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 3, *size, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
        expected = layer(x)
        v = torch.randn_like(expected)
        torch.testing.assert_close(both.adjoint(v, size), torch.autograd.grad(expected, x, v)[0])
        assert torch.equal(both(x), expected)
        assert torch.autograd.gradcheck(both, x, fast_mode=True)
        assert torch.autograd.gradgradcheck(both, x, fast_mode=True)


def test_inference_and_gradients_use_no_operation_that_adds_in_any_order() -> None:
    predictor = make("bilinear").float()
    e = torch.randn(1, 4, 4, 4, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        p, pullback = prepared(predictor)(e)
        (pullback(p) * e).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert "aten::upsample_bilinear2d" in names
    assert not [name for name in names if "bilinear2d_backward" in name or "index_add" in name or "scatter_add" in name]
