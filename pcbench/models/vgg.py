"""VGG16 for small images, as the Hebbian/anti-Hebbian work uses it: thirteen convolutions, one linear readout.

Cekic, Bakiskan, Madhow 2022 (arXiv 2202.13074) build their network from this one and compare with it. Convolutions have
no bias and, by default, implicitly normalised weights; batch normalisation comes after the rectification.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from pcbench.errors import UserError, did_you_mean
from pcbench.models.base import Preprocessing

# Statistics of the CIFAR-10 training images in [0, 1].
CIFAR10 = Preprocessing((32, 32), (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))

WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
POOL_AFTER = (1, 3, 6, 9, 12)  # indices of convolutions that a 2 x 2 pool follows

Convolution = Literal["implicit", "plain"]
CONVOLUTIONS: tuple[Convolution, ...] = ("implicit", "plain")


class ImplicitNormConv2d(nn.Conv2d):
    """A convolution by unit-norm filters: y_k = (w_k * x) / (||w_k||_2 + 1e-6); no bias.

    The norm is over (channels, height, width) of filter k and takes part in the gradient, so the output does not depend
    on the scale of w. The stored weights are never renormalised.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, padding: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, bias=False)
        self._held: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        kernel = self.kernel() if self._held is None else self._held
        return F.conv2d(input, kernel, None, self.stride, self.padding)

    def kernel(self) -> Tensor:
        """The filters as they are used."""
        kernel: Tensor = self.weight / (self.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-6)
        return kernel

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, the filters are computed once; for many passes over weights that do not change.

        At a batch of five images the norms of the weights take as long as the convolutions do.
        """
        before, self._held = self._held, self.kernel().detach()
        try:
            yield
        finally:
            self._held = before


def convolution(kind: Convolution, in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3 x 3 convolution without bias that keeps the size. Raises UserError for an unknown kind."""
    if kind == "implicit":
        return ImplicitNormConv2d(in_channels, out_channels)
    if kind == "plain":
        return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    raise UserError(f"no convolution {kind!r}; {did_you_mean(kind, CONVOLUTIONS)}")


class Block(nn.Module):
    """What every block of the family has: a convolution, then what makes an activation of its output."""

    conv: nn.Conv2d

    def activate(self, drive: Tensor) -> Tensor:
        """Activation of the convolution's output, both (B, C, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        return self.activate(self.conv(x))


class VGGBlock(Block):
    """Convolution, rectification, batch normalisation; in this order."""

    def __init__(self, in_channels: int, out_channels: int, kind: Convolution = "implicit") -> None:
        super().__init__()
        self.conv = convolution(kind, in_channels, out_channels)
        self.activation = nn.ReLU()
        self.norm = nn.BatchNorm2d(out_channels)

    def activate(self, drive: Tensor) -> Tensor:
        """Rectified, then normalised."""
        normalised: Tensor = self.norm(self.activation(drive))
        return normalised


MakeBlock = Callable[[int, int, int], Block]  # (index of the convolution, in, out) -> block


class VGG16(nn.Module):
    """Thirteen blocks with five 2 x 2 pools between them, the mean over space, one linear layer.

    Takes normalised images. At 32 x 32 the last map is 1 x 1 and the mean over space does nothing.

    Args:
        width: factor on all channel counts, greater than 0; 1 is the published network.
        num_classes: length of the logits.
        make_block: makes each block; by default VGG blocks with implicitly normalised weights.
    """

    def __init__(self, width: float = 1.0, num_classes: int = 10, make_block: MakeBlock | None = None) -> None:
        super().__init__()
        if not 0 < width <= 8:
            raise UserError(f"width is {width:g}; it is a factor on the channels, greater than 0 and at most 8")
        make = make_block or (lambda _index, before, after: VGGBlock(before, after))
        layers: list[nn.Module] = []
        channels = 3
        for index, published in enumerate(WIDTHS):
            out = max(1, round(published * width))
            layers.append(make(index, channels, out))
            channels = out
            if index in POOL_AFTER:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def blocks(self) -> Iterator[tuple[str, Block]]:
        """The thirteen blocks in order, with their module names."""
        for index, layer in enumerate(self.features):
            if isinstance(layer, Block):
                yield f"features.{index}", layer

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W), H and W at least 32 -> logits (B, classes)."""
        logits: Tensor = self.classifier(self.features(self.large_enough(x)).mean(dim=(2, 3)))
        return logits

    def forward_with_drives(self, x: Tensor, of: type[Block]) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the convolutions' outputs in the blocks of type `of`, from one pass."""
        drives = []
        x = self.large_enough(x)
        for layer in self.features:
            if isinstance(layer, of):
                drive = layer.conv(x)
                drives.append(drive)
                x = layer.activate(drive)
            else:
                x = layer(x)
        return self.classifier(x.mean(dim=(2, 3))), drives

    @staticmethod
    def large_enough(x: Tensor) -> Tensor:
        """The images, or UserError when they are too small for the five pools."""
        smallest = 2 ** len(POOL_AFTER)
        if min(x.shape[-2:]) < smallest:
            raise UserError(
                f"images of {x.shape[-2]} x {x.shape[-1]} are too small for the {len(POOL_AFTER)} pools of VGG16; "
                f"at least {smallest} x {smallest}"
            )
        return x


def vgg16(width: float = 1.0, num_classes: int = 10, convolutions: Convolution = "implicit") -> VGG16:
    """The baseline: VGG blocks everywhere; 14,724,042 parameters at width 1 and 10 classes."""
    return VGG16(width, num_classes, lambda _index, before, after: VGGBlock(before, after, convolutions))
