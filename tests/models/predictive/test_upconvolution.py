"""Upsampling and convolution as one map, against the two layers and autograd."""

import pytest
import torch
from torch import Tensor, nn

from pcbench.models.predictive.pullback import prepared
from pcbench.models.predictive.upconvolution import Upconvolution, is_upconvolution


def layers(factor: int, convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d], *, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(factor)
    upsample = nn.Upsample(scale_factor=factor, mode="bilinear")
    return nn.Sequential(upsample, convolution(20, 1, 3, padding=1, bias=bias)).double()


@pytest.mark.parametrize("size", [(6, 7), (1, 1), (2, 1), (1, 5)])
@pytest.mark.parametrize("convolution", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_values_and_adjoint_are_those_of_the_two_layers(
    factor: int, convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d], size: tuple[int, int]
) -> None:
    both = layers(factor, convolution, bias=size != (6, 7))
    assert isinstance(both[1], nn.Conv2d | nn.ConvTranspose2d)
    assert is_upconvolution(both[0], both[1])
    x = torch.randn(2, 20, *size, dtype=torch.float64, requires_grad=True)
    expected: Tensor = both(x)
    v = torch.randn_like(expected)
    found = Upconvolution(both[0], both[1])
    torch.testing.assert_close(found(x), expected)
    torch.testing.assert_close(found.adjoint(v), torch.autograd.grad(expected, x, v)[0])


def test_gradients_reach_input_and_weights() -> None:
    both = layers(2, nn.ConvTranspose2d)
    x = torch.randn(1, 20, 3, 2, dtype=torch.float64, requires_grad=True)

    def cubic(x: Tensor, *_: Tensor) -> Tensor:
        p, pullback = prepared(both)(x)
        return pullback(p**2).square().sum()

    assert torch.autograd.gradcheck(cubic, (x, *both.parameters()))


def test_a_hook_on_a_layer_is_still_told_about_its_calls() -> None:
    both = layers(2, nn.ConvTranspose2d)
    x = torch.randn(1, 20, 3, 3, dtype=torch.float64)
    seen: list[tuple[int, ...]] = []
    both[1].register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    expected = both(x)
    torch.testing.assert_close(prepared(both)(x)[0], expected)
    assert seen == [(1, 1, 6, 6)] * 2


@pytest.mark.parametrize(
    ("upsample", "convolution"),
    [
        (nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(20, 1, 3, padding=1)),
        (nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.Conv2d(20, 1, 3, padding=1)),
        (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(20, 1, 3, padding=1)),
        (nn.Upsample(size=(8, 8), mode="bilinear"), nn.Conv2d(20, 1, 3, padding=1)),
        (nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(20, 1, 5, padding=2)),
        (nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(20, 1, 3)),
        (nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(20, 1, 3, padding=1, padding_mode="reflect")),
        (nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(20, 20, 3, padding=1, groups=20)),
        (nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 1, 3, padding=1)),  # nothing is saved
        (nn.Identity(), nn.Conv2d(20, 1, 3, padding=1)),
    ],
)
def test_other_layers_are_not_taken_for_one(upsample: nn.Module, convolution: nn.Module) -> None:
    assert not is_upconvolution(upsample, convolution)
