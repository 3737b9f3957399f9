"""Which transposed convolutions are computed as products of spectra, with what derivatives, and the kernels at hand."""

import threading
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcbench.models.predictive.spectrum import Kernel, Tiles, can_pack, frequencies, taps_of


@dataclass(frozen=True)
class Route:
    """What a layer takes in each direction; None is the direct convolution."""

    forward: Tiles | None = None
    pullback: Tiles | None = None


DIRECT = Route()
_SAMPLE = 64  # values of a weight


def takes(layer: nn.ConvTranspose2d, weight: Tensor, x: Tensor, tiles: Tiles | None) -> bool:
    """Whether a product with the layer's weight is computed here.

    Not without tiles, under autocast, in other types than float32 and float64 (or than the engine's), while compiling,
    on tensors that only stand for others, where the kernels would take more memory than all may, or where the weight
    is being trained: its kernels would be new at every step.
    """
    taps = taps_of(layer)
    return (
        tiles is not None
        and taps is not None
        and max(one.count for one in taps) <= tiles.size
        and type(x) is Tensor
        and x.ndim == 4
        and x.dtype == weight.dtype
        and x.device == weight.device
        and x.dtype in (torch.float32, torch.float64)
        and (tiles.engine == "batched" or can_pack(x.dtype, x.device))
        and not (weight.requires_grad and torch.is_grad_enabled())
        and not torch.is_autocast_enabled(x.device.type)
        and not torch.compiler.is_compiling()
        and spectrum_bytes(layer, tiles.size) <= kernels.limit
    )


def spectrum_bytes(layer: nn.ConvTranspose2d, size: int) -> int:
    """What the transformed kernels of one direction take."""
    phases = layer.stride[0] * layer.stride[1]
    return frequencies(size) * 2 * layer.in_channels * layer.out_channels * phases * layer.weight.element_size()


def forward(layer: nn.ConvTranspose2d, x: Tensor, route: Route) -> Tensor:
    """What the layer makes of x, by its route. (B, I, H, W) -> (B, O, s H, s W), differentiable any number of times."""
    if not takes(layer, layer.weight, x, route.forward):
        direct: Tensor = layer(x)
        return direct
    y = _linear(x, layer.weight, layer, route, adjoint=False)
    return y if layer.bias is None else y + layer.bias.view(1, -1, 1, 1)


def pullback(layer: nn.ConvTranspose2d, v: Tensor, route: Route) -> Tensor:
    """The adjoint, (B, O, s H, s W) -> (B, I, H, W): conv2d with the same weight. Differentiable as `forward` is."""
    return _linear(v, layer.weight, layer, route, adjoint=True)


def _linear(x: Tensor, weight: Tensor, layer: nn.ConvTranspose2d, route: Route, *, adjoint: bool) -> Tensor:
    """Either direction, without the bias."""
    if takes(layer, weight, x, route.pullback if adjoint else route.forward):
        result: Tensor = _Spectral.apply(x, weight, layer, route, adjoint)
        return result
    assert not isinstance(layer.padding, str)
    if adjoint:
        return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return F.conv_transpose2d(
        x, weight, None, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
    )


class _Spectral(torch.autograd.Function):
    """Either direction. Its derivative with respect to the input is the other one, so that derivatives have theirs."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, layer: nn.ConvTranspose2d, route: Route, adjoint: bool) -> Tensor:
        tiles = route.pullback if adjoint else route.forward
        assert tiles is not None
        return kernels.of(layer, weight, tiles, adjoint=adjoint)(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, weight, ctx.layer, ctx.route, ctx.adjoint = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        return _linear(gradient, weight, ctx.layer, ctx.route, adjoint=not ctx.adjoint), None, None, None, None


@dataclass
class _Held:
    """A kernel, what it was made of, and when it was last used."""

    kernel: Kernel
    source: Tensor  # keeps the memory, so that no other weight can come to lie at its address
    mark: tuple[object, ...]
    used: int = 0


class Kernels:
    """The transformed kernels of a process: made when first used, again when the weight has changed, bounded in memory.

    A weight has changed when it lies elsewhere, when autograd's count of its changes has moved, or when some of its
    values are others (what is written through `.data` is not counted; the values are looked at on a CPU only, where
    that waits for nothing). Those used longest ago go first, and those of a layer go with it.

    Attributes:
        limit: bytes that all together take at most; twice the largest comes on top while it is made.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Tiles, bool], _Held]] = weakref.WeakKeyDictionary()
        self._clock = 0
        self._lock = threading.RLock()

    @property
    def nbytes(self) -> int:
        """Bytes that they take now."""
        return sum(held.kernel.nbytes for _, _, held in self._all())

    def of(self, layer: nn.ConvTranspose2d, weight: Tensor, tiles: Tiles, *, adjoint: bool) -> Kernel:
        """That of a layer in one direction."""
        mark = _mark(weight, tiles)
        key = (tiles, adjoint)
        with self._lock:
            self._clock += 1
            mine = self._held.setdefault(layer, {})
            held = mine.get(key)
            if held is None or held.mark != mark:
                mine.pop(key, None)
                self._make_room(spectrum_bytes(layer, tiles.size))
                taps = taps_of(layer)
                assert taps is not None
                held = self._held.setdefault(layer, {})[key] = _Held(
                    Kernel(weight, taps, tiles, adjoint), weight.detach(), mark
                )
            held.used = self._clock
            return held.kernel

    def forget(self, layer: nn.Module) -> None:
        """Drop those of a layer."""
        with self._lock:
            self._held.pop(layer, None)

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._held.clear()

    def _make_room(self, wanted: int) -> None:
        for layer, key, _ in sorted(self._all(), key=lambda entry: entry[2].used):
            if self.nbytes + wanted <= self.limit:
                return
            del self._held[layer][key]

    def _all(self) -> list[tuple[nn.Module, tuple[Tiles, bool], _Held]]:
        return [(layer, key, held) for layer, mine in list(self._held.items()) for key, held in mine.items()]


kernels = Kernels(4 * 2**30)


def _mark(weight: Tensor, tiles: Tiles) -> tuple[object, ...]:
    """What differs when kernels have to be made anew."""
    changes = 0 if weight.is_inference() else weight._version
    threads = torch.get_num_threads() if tiles.engine == "packed" else 0
    sample: list[float] = []
    if weight.device.type == "cpu":  # as they lie in memory, whatever the layout: nothing is copied
        count = min(_SAMPLE, weight.numel())
        sample = weight.detach().as_strided((count,), (weight.numel() // count,)).tolist()
    return (weight.data_ptr(), changes, weight.dtype, weight.device, threads, *sample)
