"""From real-valued results to grey levels."""

import torch
from torch import Tensor

_EPSILON = 1e-4


def to_uint8(x: Tensor) -> Tensor:
    """Clip to 0..255 and cut off the fraction, as ImageNet-C does; overwrites x.

    A ten-thousandth of a level is added first: a mean of equal values must not come out a level darker because its sum
    was rounded down.
    """
    return x.add_(_EPSILON).clamp_(0, 255).to(torch.uint8)
