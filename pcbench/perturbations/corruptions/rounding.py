"""From real-valued results to grey levels."""

import torch
from torch import Tensor

EPSILON = 1e-3


def to_uint8(x: Tensor) -> Tensor:
    """Clip to 0..255 and cut off the fraction, as ImageNet-C does.

    A thousandth of a level is added first: a mean of equal values must not come out one level darker because its sum
    was rounded down.
    """
    return (x + EPSILON).clamp_(0, 255).to(torch.uint8)
