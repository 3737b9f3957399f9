"""Convolutions and initialisations as TensorFlow has them, because the published networks were defined there."""

from collections.abc import Callable
from math import prod, sqrt

import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """A convolution whose output has ceil(size / stride) pixels; what padding is odd goes right and below.

    So 7 x 7 with stride 2 on 224 pixels pads 2 on the left and above, 3 on the right and below. The output has the
    precision of the input: under autocast the product is computed in less, and what gates and states make of it is not.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, bias: bool = True, groups: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, bias=bias, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        vertical = same_padding(input.shape[2], kernel, stride)
        horizontal = same_padding(input.shape[3], kernel, stride)
        if vertical[0] == vertical[1] and horizontal[0] == horizontal[1]:
            padding = (vertical[0], horizontal[0])
            product = F.conv2d(input, self.weight, self.bias, self.stride, padding, groups=self.groups)
        else:
            padded = F.pad(input, (*horizontal, *vertical))
            product = F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)
        return product.to(input.dtype)


class Conv2d(nn.Conv2d):
    """torch.nn's convolution, its output in the precision of the input, see SameConv2d."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        return super().forward(input).to(input.dtype)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels to add before and after.

    >>> same_padding(224, 7, 2), same_padding(28, 3, 1), same_padding(28, 2, 1)
    ((2, 3), (1, 1), (0, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SeparableConv2d(nn.Sequential):
    """A depthwise convolution, then a 1 x 1 convolution with bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(
            SameConv2d(in_channels, in_channels, kernel, bias=False, groups=in_channels),
            SameConv2d(in_channels, out_channels, 1),
        )


def layer_norm(channels: int) -> nn.GroupNorm:
    """Normalisation over height, width and channels jointly, then gain and shift per channel.

    The published code adds 1e-12 to the variance. Before the image arrives maps are constant, their variance is 0, and
    the gradient is multiplied by 1e6 in every layer and step, up to infinity in single precision; hence 1e-5 here.
    """
    return nn.GroupNorm(1, channels, eps=1e-5)


Initialise = Callable[[nn.Conv2d | nn.Linear], None]


def variance_scaling(scale: float = 1.0) -> Initialise:
    """Kernels from a normal truncated at two deviations, with variance scale / fan-in; biases 0."""

    def initialise(layer: nn.Conv2d | nn.Linear) -> None:
        # 0.8796: the deviation of a unit normal that is truncated at 2
        deviation = sqrt(scale / prod(layer.weight.shape[1:])) / 0.87962566103423978
        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)

    return initialise


def glorot(layer: nn.Conv2d | nn.Linear) -> None:
    """Glorot-uniform kernels; biases 0."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def small_normal(layer: nn.Conv2d | nn.Linear) -> None:
    """Kernels from N(0, 0.01^2), for the readout; biases 0."""
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def initialise_all(module: nn.Module, initialise: Initialise) -> None:
    """Apply it to every convolution and linear layer inside."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            initialise(layer)
