"""Bilinear upsampling whose adjoint adds in a fixed order, on every device.

torch's own adjoint, `upsample_bilinear2d_backward`, adds with atomic operations on CUDA, so that two runs differ.
Upsampling acts on rows and columns one after the other, each a matrix with two numbers in a row; the adjoint is a
product with the transposed matrices.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Bilinear:
    """Upsampling of (B, C, H, W) as a layer says, both ways.

    Args:
        layer: of mode "bilinear".
    """

    def __init__(self, layer: nn.Upsample) -> None:
        self._layer = layer
        self._matrices: dict[tuple[Any, ...], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W'), differentiable by `adjoint`."""
        if torch.is_grad_enabled() and x.requires_grad:
            up: Tensor = _Up.apply(x, self)
            return up
        return self.up(x)

    def adjoint(self, v: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, C, H', W') -> (B, C, H, W) with (H, W) = size, differentiable by the upsampling."""
        if torch.is_grad_enabled() and v.requires_grad:
            down: Tensor = _Down.apply(v, self, size)
            return down
        return self.down(v, size)

    def up(self, x: Tensor) -> Tensor:
        """What `__call__` computes, without a gradient."""
        layer = self._layer
        return F.interpolate(
            x,
            layer.size,
            layer.scale_factor,
            layer.mode,
            layer.align_corners,
            recompute_scale_factor=layer.recompute_scale_factor,
        )

    def down(self, v: Tensor, size: tuple[int, int]) -> Tensor:
        """What `adjoint` computes, without a gradient."""
        dtype = torch.promote_types(v.dtype, torch.float32)
        rows, columns = (self._matrix(axis, size[axis], dtype, v.device) for axis in (0, 1))
        with torch.autocast(
            v.device.type, enabled=False
        ):  # channels last throughout: nothing is copied to lie in order
            y = v.to(dtype).permute(0, 2, 3, 1)
            y = columns @ y  # (B, H', W, C)
            batch, height, width, channels = y.shape
            y = rows @ y.reshape(batch, height, width * channels)
            return y.view(batch, size[0], width, channels).permute(0, 3, 1, 2).to(v.dtype)

    def _matrix(self, axis: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """(length, what it becomes): column i tells what output i is made of, along rows (axis 0) or columns (1)."""
        found = self._matrices.get((axis, length, dtype, device))
        if found is None:
            layer = self._layer
            one = torch.eye(length, dtype=torch.float64).unsqueeze(1)
            made = F.interpolate(
                one,
                _along(layer.size, axis),
                _along(layer.scale_factor, axis),
                "linear",
                layer.align_corners,
                recompute_scale_factor=layer.recompute_scale_factor,
            )
            # Not waited for: what is copied from is read before this returns, since it is in ordinary memory.
            found = made.squeeze(1).to(device=device, dtype=dtype, non_blocking=True)
            self._matrices[axis, length, dtype, device] = found
        return found


def _along(value: Any, axis: int) -> Any:
    return value[axis] if isinstance(value, tuple) else value


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, both: Bilinear) -> Tensor:
        ctx.both, ctx.size = both, (int(x.shape[2]), int(x.shape[3]))
        return both.up(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.both.adjoint(gradients[0], ctx.size), None


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, both: Bilinear, size: tuple[int, int]) -> Tensor:
        ctx.both = both
        return both.down(v, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.both(gradients[0]), None, None
