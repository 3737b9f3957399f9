"""Bilinear upsampling by a whole factor followed by a 3x3 convolution, and its adjoint, without the upsampled tensor.

Of PCoder 1 of a network for 224 x 224 images the upsampled representation is the largest tensor by far (32 x 224 x 224
values an image), and all that is wanted of it is a prediction of 3 channels. Both steps are linear, so the s x s values
of the prediction over one unit of the representation are a linear function of that unit and its 8 neighbours: one
3x3 convolution with s^2 times the channels on the small grid. At the borders, where upsampling repeats the edge and the
convolution sees zeros beyond it, the weights differ; the difference is added to the outermost rows and columns.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EDGES = (0, -1)


def is_upconvolution(upsample: nn.Module, convolution: nn.Module) -> bool:
    """Whether two layers are one of these, with a result smaller than the upsampled tensor (else nothing is saved)."""
    if type(upsample) is not nn.Upsample or upsample.mode != "bilinear" or upsample.align_corners:
        return False
    if upsample.recompute_scale_factor or upsample.size is not None:
        return False
    factor = upsample.scale_factor
    if isinstance(factor, tuple) or factor is None or factor != int(factor) or factor < 2:
        return False
    if not isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d) or convolution.padding_mode != "zeros":
        return False
    if type(convolution) not in (nn.Conv2d, nn.ConvTranspose2d):  # another type may convolve by other weights
        return False
    shape = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation)
    if shape != ((3, 3), (1, 1), (1, 1), (1, 1)) or convolution.groups != 1:
        return False
    return convolution.out_channels * int(factor) ** 2 < convolution.in_channels


class Upconvolution:
    """The two layers as one linear map.

    Args:
        upsample, convolution: as `is_upconvolution` accepts them, from (B, I, H, W) to (B, O, s H, s W). The weights
            are differentiated through.
    """

    def __init__(self, upsample: nn.Upsample, convolution: nn.Conv2d | nn.ConvTranspose2d) -> None:
        factor = upsample.scale_factor
        assert factor is not None
        assert not isinstance(factor, tuple)
        self.factor = s = int(factor)
        weight = convolution.weight.to(torch.promote_types(convolution.weight.dtype, torch.float32))
        if isinstance(convolution, nn.ConvTranspose2d):  # with stride 1 a convolution by the mirrored kernel
            weight = weight.transpose(0, 1).flip(2, 3)
        # Not waited for: what is copied from is read before `to` returns, since it is in ordinary memory.
        tables = [torch.tensor(rows, dtype=torch.float64) for rows in _interpolation(s)]
        inside, *edges = (table.to(weight.device, weight.dtype, non_blocking=True) for table in tables)
        with torch.autocast(weight.device.type, enabled=False):  # channels of the small grid: (row, column, channel)

            def combined(equation: str, one: Tensor, two: Tensor) -> Tensor:
                product: Tensor = torch.einsum(equation, weight, one, two)
                return product.flatten(0, 2).to(convolution.weight.dtype)

            self._kernel = combined("oiab,ram,sbn->rsoimn", inside, inside)
            self._rows = [combined("oiab,ra,sbn->rsoni", e, inside).flatten(1) for e in edges]
            self._columns = [combined("oiab,ram,sb->rsomi", inside, e).flatten(1) for e in edges]
            self._corners = [[combined("oiab,ra,sb->rsoi", e, f) for f in edges] for e in edges]
        self._bias = None if convolution.bias is None else convolution.bias.repeat(s * s)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, s H, s W)."""
        y = F.conv2d(x, self._kernel, self._bias, padding=1)
        for n, edge in enumerate(_EDGES):
            y[:, :, edge] += F.linear(_neighbours(x[:, :, edge]), self._rows[n]).transpose(1, 2)
            y[..., edge] += F.linear(_neighbours(x[..., edge]), self._columns[n]).transpose(1, 2)
            for m, other in enumerate(_EDGES):
                y[:, :, edge, other] += F.linear(x[:, :, edge, other], self._corners[n][m])
        batch, _, height, width = y.shape
        s = self.factor
        units = y.permute(0, 2, 3, 1).reshape(batch, height, width, s, -1)
        return units.transpose(2, 3).reshape(batch, height * s, width * s, -1).permute(0, 3, 1, 2)

    def adjoint(self, v: Tensor) -> Tensor:
        """(B, O, s H, s W) -> (B, I, H, W): the transposed map, without the bias."""
        s = self.factor
        batch, channels, height, width = v.shape
        rows = v.permute(0, 2, 3, 1).reshape(batch, height // s, s, width // s, s * channels)
        y = rows.transpose(2, 3).reshape(batch, height // s, width // s, -1).permute(0, 3, 1, 2)
        x = F.conv_transpose2d(y, self._kernel, padding=1)
        for n, edge in enumerate(_EDGES):
            x[:, :, edge] += F.linear(_neighbours(y[:, :, edge]), _mirrored(self._rows[n])).transpose(1, 2)
            x[..., edge] += F.linear(_neighbours(y[..., edge]), _mirrored(self._columns[n])).transpose(1, 2)
            for m, other in enumerate(_EDGES):
                x[:, :, edge, other] += F.linear(y[:, :, edge, other], self._corners[n][m].T)
        return x


def _neighbours(line: Tensor) -> Tensor:
    """(B, C, L) -> (B, L, 3 C): each position with the ones before and after it, zeros beyond the ends."""
    line = line.transpose(1, 2)
    return torch.cat([F.pad(line, (0, 0, 1, 0))[:, :-1], line, F.pad(line, (0, 0, 0, 1))[:, 1:]], 2)


def _mirrored(weight: Tensor) -> Tensor:
    """The weights (O, 3 I) over `_neighbours`, transposed: (I, 3 O)."""
    outputs = len(weight)
    return weight.reshape(outputs, 3, -1).flip(1).permute(2, 1, 0).reshape(-1, 3 * outputs)


@lru_cache
def _interpolation(s: int) -> tuple[list[Any], list[Any], list[Any]]:
    """What the upsampled values under a 3-tap kernel are made of, in one dimension.

    Returns:
        (s, 3, 3): at phase r of a unit, under tap a, the weight of the unit's neighbour m - 1.
        (s, 3) twice: the same for the first and the last unit of a row, as what has to be added to zeros beyond the
        edge: the edge repeated for the upsampling, less what lies under a tap beyond the upsampled row.

    >>> _interpolation(2)[0][0][1]
    [0.25, 0.75, 0.0]
    """
    table = np.zeros((s + 2, 3))
    for row in range(s + 2):  # the upsampled position row - 1, seen from the unit at 0
        position = (row - 1 + 0.5) / s - 0.5
        left = math.floor(position)
        table[row, left + 1] = 1 - (position - left)
        if position > left:
            table[row, left + 2] = position - left
    inside = np.stack([table[r : r + 3] for r in range(s)])
    first, last = inside[:, :, 0].copy(), inside[:, :, 2].copy()
    first[0, 0] -= 1
    last[-1, -1] -= 1
    return inside.tolist(), first.tolist(), last.tolist()
