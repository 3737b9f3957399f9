"""Hebbian/anti-Hebbian (HaH) networks: few, strong activations through competition between channels.

Cekic, Bakiskan, Madhow 2022, "Neuro-Inspired Deep Neural Networks with Sparse, Strong Activations" (arXiv 2202.13074).
The first six blocks of VGG16 become HaH blocks: convolution with implicitly normalised weights, rectification,
divisive normalisation, fractional threshold. In training, each of them also climbs a cost of its own, which rewards the
strongest channels at each position (Hebbian) and demotes the others (anti-Hebbian).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.models.base import Jump
from pcbench.models.vgg import VGG16, Block, Convolution, VGGBlock, convolution

HAH_BLOCKS = 6
SMOOTHING = 0.25  # width of the threshold's stand-in, over the mean activation
ALPHAS = (0.0045, 0.0025, 0.0013, 0.001, 0.0008, 0.0005)  # weight of the cost of each HaH block, as published


class DivisiveNormalisation(nn.Module):
    """Division by the activity around: a / (sigma max_hw(M) + (1 - sigma) M + 1e-7).

    M, (B, 1, H, W), is the mean over channels of the 3 x 3 maximum of |a|; the maximum of M over space is taken image
    by image. So sigma in [0, 1] weighs global against local suppression; it is no additive constant.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, a: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        local = F.max_pool2d(a.abs(), 3, stride=1, padding=1).mean(dim=1, keepdim=True)
        largest = local.amax(dim=(2, 3), keepdim=True)
        return a / (self.sigma * largest + (1 - self.sigma) * local + 1e-7)


class FractionalThreshold(Jump):
    """Keeps, in each channel of each image, the values above the quantile 1 - `keep`; the others become 0.

    The threshold is the k-th smallest of the H W values, k = floor((1 - keep) H W), and only what is strictly larger
    survives, unchanged. Gradients flow through the survivors alone. The smooth stand-in is a sigmoid((a - threshold) /
    w), w a quarter of the mean of the channel's |a|: gradients then reach what the threshold just kept out.
    """

    def __init__(self, keep: float = 0.2) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, a: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        flat = a.detach().flatten(2)
        size = flat.shape[2]
        k = math.floor(round((1 - self.keep) * size, 9))  # 0.8 is not exactly 1 - 0.2
        if k == 0:
            return a
        threshold = _kth_smallest(flat, k).view(*flat.shape[:2], 1, 1)
        hard = a * (a > threshold)
        if not self.smooth:
            return hard
        width = SMOOTHING * flat.abs().mean(2).view(*flat.shape[:2], 1, 1) + 1e-6
        soft = a * torch.sigmoid((a - threshold) / width)
        return soft + (hard - soft).detach()


def _kth_smallest(values: Tensor, k: int) -> Tensor:
    """The k-th smallest along the last dimension, (B, C, N) -> (B, C)."""
    if values.device.type == "cpu":  # NumPy's selection is several times as fast as torch's
        known = values.float() if values.dtype == torch.bfloat16 else values  # which NumPy does not have
        found = np.partition(known.numpy(), k - 1, axis=-1)[..., k - 1]
        return torch.from_numpy(np.ascontiguousarray(found)).to(values.dtype)
    return values.topk(values.shape[2] - k + 1, dim=2).values[..., -1]  # faster there than kthvalue


class HaHBlock(Block):
    """Convolution, rectification, divisive normalisation, fractional threshold; the kernels are all that is learnt."""

    def __init__(
        self, in_channels: int, out_channels: int, *, normalisation: bool = True, threshold: bool = True
    ) -> None:
        super().__init__()
        self.conv = convolution("implicit", in_channels, out_channels)
        self.activation = nn.ReLU()
        self.normalisation = DivisiveNormalisation() if normalisation else nn.Identity()
        self.threshold = FractionalThreshold() if threshold else nn.Identity()

    def activate(self, drive: Tensor) -> Tensor:
        """Rectified, normalised by its surroundings, thresholded; in single precision or better.

        With fewer bits many units of a channel would be equal, and all that equal the threshold fall.
        """
        drive = drive.to(torch.promote_types(drive.dtype, torch.float32))
        sparse: Tensor = self.threshold(self.normalisation(self.activation(drive)))
        return sparse


def hah_vgg16(
    width: float = 1.0,
    num_classes: int = 10,
    convolutions: Convolution = "implicit",
    *,
    normalisation: bool = True,
    threshold: bool = True,
) -> VGG16:
    """VGG16 whose first six blocks are HaH blocks; 14,722,250 parameters at width 1 and 10 classes.

    Args:
        width: factor on all channel counts.
        num_classes: length of the logits.
        convolutions: of the seven VGG blocks; those of the HaH blocks always have implicitly normalised weights.
        normalisation: False leaves the divisive normalisation out (an ablation).
        threshold: False leaves the threshold out (an ablation).
    """

    def make(index: int, before: int, after: int) -> Block:
        if index < HAH_BLOCKS:
            return HaHBlock(before, after, normalisation=normalisation, threshold=threshold)
        return VGGBlock(before, after, convolutions)

    return VGG16(width, num_classes, make)


@dataclass(frozen=True)
class HaHCost:
    """The layer-local cost, which training climbs.

    Attributes:
        ratio: share of the channels that count as strong.
        demote: lambda, the weight of the others. The published code exists in two versions, of which one trains with
            0.1 and the other, by a keyword that is not read, with 1.0.
        alphas: weight of the cost in the loss, for each HaH block in order.
    """

    ratio: float = 0.1
    demote: float = 0.1
    alphas: Sequence[float] = ALPHAS

    def of(self, drive: Tensor) -> Tensor:
        """Mean over images and positions of mean(top K) - lambda mean(the others), K = ceil(ratio C); a scalar.

        Args:
            drive: (B, C, H, W), output of a block's convolution; it is rectified first.
        """
        activity = F.relu(drive)
        channels = activity.shape[1]
        k = math.ceil(round(self.ratio * channels, 9))
        strong = activity.topk(k, dim=1).values.sum(dim=1)
        if k == channels:
            return (strong / k).mean()
        others = activity.sum(dim=1) - strong
        return (strong / k - self.demote * others / (channels - k)).mean()

    def add_gradients(self, network: VGG16, drives: Sequence[Tensor]) -> float:
        """Add the gradient of -alpha_l cost_l to block l's own kernel, and to nothing else.

        Exactly local without a second pass: cost_l depends on the kernel of block l only through this block's
        convolution, so differentiating it with respect to that kernel alone stops there. (Summing the costs and
        differentiating the sum is another algorithm: deeper costs would then reach the kernels below.)

        Args:
            network: whose blocks' kernels receive the gradients, added to `.grad`.
            drives: of its HaH blocks, from `forward_with_drives`; their graph is kept.

        Returns:
            The weighted sum of the costs, for the log.
        """
        blocks = [block for _, block in network.blocks() if isinstance(block, HaHBlock)]
        total = 0.0
        for block, drive, alpha in zip(blocks, drives, self.alphas, strict=True):
            if alpha == 0:
                continue
            loss = -alpha * self.of(drive)
            (gradient,) = torch.autograd.grad(loss, block.conv.weight, retain_graph=True)
            kernel = block.conv.weight
            kernel.grad = gradient if kernel.grad is None else kernel.grad + gradient
            total -= float(loss.detach())
        return total


def read_alphas(text: str) -> tuple[float, ...]:
    """Weights of the blocks' costs from text such as "0.0045,0.0025,0.0013,0.001,0.0008,0.0005".

    Raises:
        UserError: not as many numbers as there are HaH blocks.
    """
    try:
        alphas = tuple(float(part) for part in text.split(","))
    except ValueError:
        alphas = ()
    if len(alphas) != HAH_BLOCKS or not all(math.isfinite(alpha) for alpha in alphas):
        raise UserError(f"alphas are {text!r}; they are {HAH_BLOCKS} numbers with commas between, one a HaH block")
    return alphas
