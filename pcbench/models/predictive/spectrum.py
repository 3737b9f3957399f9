"""Transposed convolutions with large kernels, and their adjoints, as products of spectra.

A transposed convolution of stride s whose output is s times its input in size is, for each of the s x s phases of the
output, an ordinary convolution of the input with every s-th row and column of the kernel: 14 x 14 taps of stride 2 are
four kernels of 7 x 7. Here both directions are computed tile by tile (overlap-save): the tile's real Fourier transform,
for each frequency one product of matrices over the channels (of all tiles and all phases at once), and the transform
back of that part of the tile that nothing wrapped around into. The adjoint is the same with the roles of its ends
exchanged. For pVGG16 that is a tenth of the multiplications of the direct form.

    forward   y[s a + r] = sum_d x[a - d] w[s d + r + p]          (one dimension; r: the phase, p: the padding)
    adjoint   x[m]       = sum_r sum_d y[s (m + d) + r] w[s d + r + p]

The transforms are small and applied as matrix products, with channels innermost: any tile size is as good as any other,
and every intermediate comes out in the order that the next step reads. A complex product is one real product: the real
and imaginary parts of a tile are two rows, those of a kernel two columns, and the transform back adds up the four.

Against the direct form a result differs by rounding: 1e-6 of the norm in float32. Rows are multiplied in blocks of one
size whatever the batch, so an image's result does not depend on which images it is batched with.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Engine = Literal["packed", "batched"]


@dataclass(frozen=True)
class Tiles:
    """How one direction of a layer is computed.

    Attributes:
        size: of a square tile, in elements of the small grid; at least the number of taps of a phase.
        rows: of one product of matrices; even, since a tile has two.
        engine: of the product: "packed" (oneDNN with kernels in its own layout; float32 on a CPU) or "batched"
            (torch.bmm).
    """

    size: int
    rows: int
    engine: Engine


@dataclass(frozen=True)
class Taps:
    """The taps of the phases of a transposed convolution along one dimension: d from `first` to `last`."""

    kernel: int
    stride: int
    padding: int

    @property
    def first(self) -> int:
        """The lowest d for which some phase has a tap."""
        return -((self.stride - 1 + self.padding) // self.stride)

    @property
    def last(self) -> int:
        """The highest."""
        return (self.kernel - 1 - self.padding) // self.stride

    @property
    def count(self) -> int:
        """How many."""
        return self.last - self.first + 1

    def index(self) -> Tensor:
        """(count, stride): the kernel's row at d and phase r, s d + r + p; `kernel` where there is none."""
        rows = torch.arange(self.first, self.last + 1)[:, None] * self.stride + torch.arange(self.stride) + self.padding
        return torch.where((rows >= 0) & (rows < self.kernel), rows, self.kernel)


def taps_of(layer: nn.Module) -> tuple[Taps, Taps] | None:
    """The taps along height and width of a layer that this module computes; None for any other.

    That is exactly a ConvTranspose2d, in one group, undilated, whose output is its stride times its input in size.
    """
    if type(layer) is not nn.ConvTranspose2d or layer.groups != 1 or tuple(layer.dilation) != (1, 1):
        return None
    if layer.padding_mode != "zeros" or layer.stride[0] != layer.stride[1] or isinstance(layer.padding, str):
        return None
    sides = zip(layer.kernel_size, layer.stride, layer.padding, layer.output_padding, strict=True)
    if any(k + extra != s + 2 * p or k < s for k, s, p, extra in sides):
        return None
    height, width = (Taps(k, s, p) for k, s, p in zip(layer.kernel_size, layer.stride, layer.padding, strict=True))
    return height, width


def frequencies(size: int) -> int:
    """How many there are in the transform of a real tile."""
    return size * (size // 2 + 1)


class Kernel:
    """A layer's kernels, transformed, in one direction: a map of tensors. Holds `nbytes`, and a few tables.

    Args:
        weight: (I, O, K, K) of the transposed convolution.
        taps: of its two dimensions.
        tiles: the choice of sizes.
        adjoint: the direction.
    """

    def __init__(self, weight: Tensor, taps: tuple[Taps, Taps], tiles: Tiles, adjoint: bool) -> None:
        self._stride = taps[0].stride
        self._adjoint = adjoint
        self._size = tiles.size
        self._rows = tiles.rows
        self._bins = tiles.size // 2 + 1
        self._reach = [-one.first if adjoint else one.last for one in taps]  # of a tile, before its first output
        self._whole = [tiles.size - one.count + 1 for one in taps]  # outputs of a tile that nothing wraps around into
        self._channels = (weight.shape[1], weight.shape[0]) if adjoint else (weight.shape[0], weight.shape[1])
        phases = self._stride**2
        self._inputs, self._outputs = (n * f for n, f in zip(self._channels, _ends(phases, adjoint), strict=True))
        self._tables = _tables(tiles.size, *self._whole, weight.dtype, weight.device)
        spectrum = self._spectrum(weight.detach(), taps)
        self.nbytes = spectrum.nbytes
        self._product = _Packed(spectrum, tiles.rows) if tiles.engine == "packed" else _Batched(spectrum)

    def _spectrum(self, weight: Tensor, taps: tuple[Taps, Taps]) -> Tensor:
        """(frequencies, 2 outputs, inputs): the conjugate spectrum, real parts of all outputs before imaginary ones."""
        rows, columns = (one.index().to(weight.device) for one in taps)
        phased = F.pad(weight, (0, 1, 0, 1))[:, :, rows][..., columns]  # (I, O, d, r, d', r')
        order = (2, 4, 0, 3, 5, 1) if self._adjoint else (2, 4, 3, 5, 1, 0)
        phased = phased.permute(order)
        if not self._adjoint:
            phased = phased.flip(0, 1)  # taps in the order in which they meet the tile's elements
        phased = phased.reshape(-1, self._outputs * self._inputs)
        turn = torch.arange(self._size, dtype=torch.float64) * (2 * math.pi / self._size)
        down = torch.outer(turn, torch.arange(taps[0].count, dtype=torch.float64))
        across = torch.outer(turn[: self._bins], torch.arange(taps[1].count, dtype=torch.float64))
        angles = (down[:, None, :, None] + across[:, None]).flatten(2)  # (kh, kw, taps)
        matrix = torch.stack([angles.cos(), angles.sin()], 2).flatten(0, 2).to(weight)
        return torch.mm(matrix, phased).view(-1, 2 * self._outputs, self._inputs)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, s H, s W), or back for the adjoint; channels last."""
        x = x.permute(0, 2, 3, 1).contiguous()
        s = self._stride
        if self._adjoint:  # each row of an element's phases is (column, phase, channel): a matrix as it lies
            batch, height, width = len(x), x.shape[1] // s, x.shape[2] // s
            ends = x.view(batch, height, s, width, -1).unbind(2)
        else:
            batch, height, width = x.shape[:3]
            ends = (x,)
        middle = self._across(ends, batch, height, width)
        result = self._down(middle, batch, height, width)
        return self._back(result, batch, height, width).permute(0, 3, 1, 2)

    def _across(self, ends: Sequence[Tensor], batch: int, height: int, width: int) -> Tensor:
        """Transform rows: (batch, tile, height, (part, kw), channel)."""
        tiles = -(-width // self._whole[1])
        out = ends[0].new_empty(batch, tiles, height, 2 * self._bins, self._inputs)
        parts = out.chunk(len(ends), 4)
        for tile in range(tiles):
            start = tile * self._whole[1] - self._reach[1]
            low, high = max(start, 0), min(start + self._size, width)
            table = self._tables.across[:, low - start : high - start].expand(height, -1, -1)
            for image in range(batch):
                for end, part in zip(ends, parts, strict=True):
                    torch.bmm(table, end[image, :, low:high], out=part[image, tile])
        return out

    def _down(self, middle: Tensor, batch: int, height: int, width: int) -> Tensor:
        """Transform columns, multiply, transform back: (batch, tile, height, (part, kw, part of the kernel), channel).

        Tiles go through in blocks, so that what lies between the steps stays in the cache.
        """
        across, down = -(-width // self._whole[1]), -(-height // self._whole[0])
        rows = middle.view(batch, across, 2 * height, -1)
        out = middle.new_empty(batch, across, 2 * height, self._bins * 2 * self._outputs)
        places = [(image, j, i) for image in range(batch) for j in range(across) for i in range(down)]
        block = middle.new_empty(self._rows // 2, 2 * self._size, self._bins * self._inputs)
        for begin in range(0, len(places), len(block)):
            now = places[begin : begin + len(block)]
            for (image, j, i), target in zip(now, block, strict=False):
                start = i * self._whole[0] - self._reach[0]
                low, high = max(start, 0), min(start + self._size, height)
                table = self._tables.down[:, 2 * (low - start) : 2 * (high - start)]
                torch.mm(table, rows[image, j, 2 * low : 2 * high], out=target)
            block[len(now) :].zero_()
            products = self._product(block.view(self._rows, -1, self._inputs))
            products = products.view(len(block), 2 * self._size, -1)
            for (image, j, i), product in zip(now, products, strict=False):
                low, high = i * self._whole[0], min((i + 1) * self._whole[0], height)
                torch.mm(self._tables.up[: 2 * (high - low)], product, out=out[image, j, 2 * low : 2 * high])
        return out.view(batch, across, height, 4 * self._bins, self._outputs)

    def _back(self, result: Tensor, batch: int, height: int, width: int) -> Tensor:
        """Transform rows back, each phase to its place: (batch, s height, s width, channel) or without s."""
        s = 1 if self._adjoint else self._stride
        out = result.new_empty(batch, height, s, width, self._outputs // s)
        for tile in range(-(-width // self._whole[1])):
            low, high = tile * self._whole[1], min((tile + 1) * self._whole[1], width)
            table = self._tables.back[: high - low].expand(height, -1, -1)
            for image in range(batch):
                for phase, part in enumerate(result[image, tile].chunk(s, 2)):
                    torch.bmm(table, part, out=out[image, :, phase, low:high])
        return out.view(batch, s * height, s * width, -1)


def _ends(phases: int, adjoint: bool) -> tuple[int, int]:
    """How many phases there are at the input and at the output."""
    return (phases, 1) if adjoint else (1, phases)


@dataclass(frozen=True)
class _Tables:
    """The four transforms as real matrices.

    Attributes:
        across: ((part, kw), element).
        down: ((part, kh), (element, part)).
        up: ((element, part), (part, kh)), for the outputs of a tile.
        back: (element, (part, kw, part of the kernel)): the real part of the sum over the kernel's parts.
    """

    across: Tensor
    down: Tensor
    up: Tensor
    back: Tensor


@lru_cache(maxsize=64)
def _tables(size: int, tall: int, wide: int, dtype: torch.dtype, device: torch.device) -> _Tables:
    numbers = torch.arange(size, dtype=torch.float64)
    angles = torch.outer(numbers, numbers) * (2 * math.pi / size)
    cos, sin = angles.cos(), angles.sin()
    bins = size // 2 + 1
    halves = torch.full((bins,), 2.0, dtype=torch.float64)  # a bin stands for its mirror image too, where it has one
    halves[0] = 1.0
    if size % 2 == 0:
        halves[-1] = 1.0
    halves = halves / size**2
    across = torch.cat([cos[:bins], -sin[:bins]])
    down = torch.stack([torch.stack([cos, sin], 2), torch.stack([-sin, cos], 2)]).view(2 * size, 2 * size)
    up = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)[:tall].reshape(2 * tall, 2 * size)
    c, s = cos[:wide, :bins] * halves, sin[:wide, :bins] * halves
    back = torch.stack([torch.stack([c, -s], 2), torch.stack([-s, -c], 2)], 1).reshape(wide, 4 * bins)
    return _Tables(*(table.to(device, dtype) for table in (across, down, up, back)))


class _Batched:
    """(rows, frequencies, inputs) -> (rows, frequencies, outputs), by torch.bmm."""

    def __init__(self, spectrum: Tensor) -> None:
        self._spectrum = spectrum.transpose(1, 2)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.bmm(x.transpose(0, 1), self._spectrum).transpose(0, 1).contiguous()


class _Packed:
    """The same as a convolution of 1 x 1 in as many groups as there are frequencies, for a fixed number of rows.

    PyTorch's float32 matrix products come from MKL, which takes half as long again to three times as long on
    processors of other makers; its convolutions come from oneDNN, which does not mind. The kernels have to be in
    oneDNN's own layout, which depends on the number of rows and of threads.
    """

    def __init__(self, spectrum: Tensor, rows: int) -> None:
        self._groups, outputs, inputs = spectrum.shape
        shape = [1, self._groups * inputs, rows, 1]
        dense = spectrum.reshape(self._groups * outputs, inputs, 1, 1).to_mkldnn()
        pack: Callable[..., Tensor] = torch._C._nn.mkldnn_reorder_conv2d_weight  # its stub lacks the shape
        self._weight = pack(dense, [0, 0], [1, 1], [1, 1], self._groups, shape)

    def __call__(self, x: Tensor) -> Tensor:
        rows = len(x)
        image = x.view(1, rows, 1, -1).permute(0, 3, 1, 2)
        product: Tensor = torch.ops.mkldnn._convolution_pointwise(
            image, self._weight, None, [0, 0], [1, 1], [1, 1], self._groups, "none", [], ""
        )
        return product.permute(0, 2, 3, 1).view(rows, self._groups, -1)


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether "packed" is for a type on a device, where PyTorch has it; see `packed_fault`."""
    return device.type == "cpu" and dtype == torch.float32


def best_engine(dtype: torch.dtype, device: torch.device) -> Engine:
    """The fastest that works for a type on a device."""
    return "packed" if can_pack(dtype, device) and packed_fault() is None else "batched"


@cache
def packed_fault() -> str | None:
    """Why the engine "packed" does not work with this PyTorch, one line; None where it does.

    Both of its operators are PyTorch's own business: another version may lack them, or take other arguments. So it is
    tried on a product of whole numbers, which has to come out exactly.
    """
    spectrum = (torch.arange(5 * 6 * 3) % 7).float().view(5, 6, 3)
    rows = (torch.arange(4 * 5 * 3) % 5).float().view(4, 5, 3)
    try:
        with torch.autocast("cpu", enabled=False):
            found = _Packed(spectrum, len(rows))(rows)
            right = torch.equal(found, _Batched(spectrum)(rows))
    except Exception as error:  # names that are gone, other arguments, no oneDNN: each raises its own
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None if right else "its products are wrong"
