"""Linear maps of images: separable ones (blurs, zooms) and stencils (defocus, motion).

Images are (B, H, W, C) float32. The compiled loops treat one image at a time in a fixed order; the torch forms add in
float64 or tap by tap. So neither depends on the batch.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcbench.perturbations.corruptions.kernels import compiled, on_cpu

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
_SHORT = 24  # radius up to which OpenCV's filter beats a banded matrix

# What lies outside of "abcd": nearest aaa|abcd|ddd, reflect cba|abcd|dcb, mirror dcb|abcd|cba.
Border = Literal["nearest", "reflect", "mirror"]
_OPENCV_BORDERS = {
    "nearest": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
    "mirror": cv2.BORDER_REFLECT_101,
}


def fold(index: Indices, size: int, border: Border) -> Indices:
    """Where an index outside 0..size-1 is read from."""
    if border == "nearest":
        return np.clip(index, 0, size - 1)
    period, last = reflection(size, border)
    index = index % period
    return np.where(index < size, index, last - index)


def reflection(size: int, border: Border) -> tuple[int, int]:
    """(period, last) of a reflecting border: index i reads from r = i mod period, or last - r where r >= size."""
    return (2 * size, 2 * size - 1) if border == "reflect" else (2 * size - 2, 2 * size - 2)


# --- separable maps: one matrix an axis ---


def gaussian_weights(sigma: float, radius: int) -> Array:
    """(2 radius + 1,): the weights of a Gaussian mean; they sum to 1."""
    weights: Array = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    return weights


@dataclass(frozen=True)
class Band:
    """A linear map of lines of pixels.

    Attributes:
        matrix: (size, size) float32.
        first: (size,) the first column of each row that is not 0.
        last: (size,) one more than the last such column.
    """

    matrix: npt.NDArray[np.float32]
    first: Indices
    last: Indices


@lru_cache(maxsize=64)
def gaussian_matrix(size: int, sigma: float, truncate: float, border: Border) -> Band:
    """Row i holds the weights of pixel i's Gaussian mean, cut at `truncate` deviations.

    As scipy.ndimage.gaussian_filter1d: radius int(truncate * sigma + 0.5), weights that sum to 1.
    """
    matrix = np.zeros((size, size))
    radius = int(truncate * sigma + 0.5)
    weights = gaussian_weights(sigma, radius) if radius else np.ones(1)
    rows, offsets = np.arange(size)[:, None], np.arange(-radius, radius + 1)
    np.add.at(matrix, (rows, fold(rows + offsets, size, border)), weights)
    used = matrix != 0
    return Band(matrix.astype(np.float32), used.argmax(1), size - used[:, ::-1].argmax(1))


def separable(x: Tensor, vertical: Band, horizontal: Band) -> Tensor:
    """(B, H, W, C) -> the same: `vertical` along the columns, `horizontal` along the rows.

    The result may be a transposed view.
    """
    x = _along_rows(x.contiguous(), vertical)
    return _along_rows(x.transpose(1, 2).contiguous(), horizontal).transpose(1, 2)


def smooth(x: Tensor, sigma: float, truncate: float = 4, border: Border = "nearest") -> Tensor:
    """(B, H, W, C) -> Gaussian mean, with skimage's defaults."""
    height, width = x.shape[1:3]
    radius = int(truncate * sigma + 0.5)
    if on_cpu(x) and 0 < radius <= _SHORT:
        weights = gaussian_weights(sigma, radius).astype(np.float32)
        out = np.empty(x.shape, np.float32)
        for source, target in zip(x.contiguous().numpy(), out, strict=True):
            cv2.sepFilter2D(source, cv2.CV_32F, weights, weights, target, borderType=_OPENCV_BORDERS[border])
        return torch.from_numpy(out)
    return separable(
        x, gaussian_matrix(height, sigma, truncate, border), gaussian_matrix(width, sigma, truncate, border)
    )


def _along_rows(x: Tensor, band: Band) -> Tensor:
    if not on_cpu(x):
        weights = torch.from_numpy(band.matrix).to(x.device, torch.float64)
        return (weights @ x.flatten(2).double()).to(torch.float32).view(x.shape)
    out = np.empty(x.shape, np.float32)
    lines = x.flatten(2).numpy()
    _band_loop(lines, band.matrix, band.first, band.last, out.reshape(lines.shape))
    return torch.from_numpy(out)


@compiled
def _band_loop(
    x: npt.NDArray[np.float32],
    matrix: npt.NDArray[np.float32],
    first: Indices,
    last: Indices,
    out: npt.NDArray[np.float32],
) -> None:
    """out[image, row] = sum over k in first[row]..last[row]-1 of matrix[row, k] x[image, k]."""
    steps = np.arange(matrix.shape[1])
    straight = np.zeros_like(steps)
    for image in range(x.shape[0]):
        for row in range(matrix.shape[0]):
            weights = matrix[row, first[row] : last[row]]
            _weigh(x[image], first[row], steps, straight, weights, out[image, row])


@compiled
def _weigh(
    lines: npt.NDArray[np.float32],
    row: int,
    dy: Indices,
    dx: Indices,
    weights: npt.NDArray[np.float32],
    total: npt.NDArray[np.float32],
) -> None:
    """Set total to the sum over k of weights[k] lines[row + dy[k], dx[k]:]; eight terms a pass over it."""
    n, taps = total.size, weights.size
    total[:] = 0
    k = 0
    while k + 8 <= taps:
        a = lines[row + dy[k], dx[k] : dx[k] + n]
        b = lines[row + dy[k + 1], dx[k + 1] : dx[k + 1] + n]
        c = lines[row + dy[k + 2], dx[k + 2] : dx[k + 2] + n]
        d = lines[row + dy[k + 3], dx[k + 3] : dx[k + 3] + n]
        e = lines[row + dy[k + 4], dx[k + 4] : dx[k + 4] + n]
        f = lines[row + dy[k + 5], dx[k + 5] : dx[k + 5] + n]
        g = lines[row + dy[k + 6], dx[k + 6] : dx[k + 6] + n]
        h = lines[row + dy[k + 7], dx[k + 7] : dx[k + 7] + n]
        wa, wb, wc, wd = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        we, wf, wg, wh = weights[k + 4], weights[k + 5], weights[k + 6], weights[k + 7]
        for i in range(n):
            total[i] += a[i] * wa + b[i] * wb + c[i] * wc + d[i] * wd + e[i] * we + f[i] * wf + g[i] * wg + h[i] * wh
        k += 8
    while k < taps:
        a, wa = lines[row + dy[k], dx[k] : dx[k] + n], weights[k]
        for i in range(n):
            total[i] += a[i] * wa
        k += 1


# --- stencils ---


def stencil(x: Tensor, dy: Indices, dx: Indices, weights: Array, border: Border) -> Tensor:
    """out[y, x] = sum over k of weights[k] x[y + dy[k], x + dx[k]].

    Args:
        x: (B, H, W, C).
        dy: (B, K) or (1, K) whole offsets; one row for each image, or one for all.
        dx: the same form.
        weights: the same form; a tap of weight 0 costs time only.
        border: what lies outside.
    """
    images, height, width, channels = x.shape
    top, left = max(0, -int(dy.min())), max(0, -int(dx.min()))
    bottom, right = max(0, int(dy.max())), max(0, int(dx.max()))
    dy, dx = dy + top, dx + left
    if on_cpu(x):
        outside = _OPENCV_BORDERS[border]
        padded = np.stack([cv2.copyMakeBorder(each, top, bottom, left, right, outside) for each in x.numpy()])
        out = np.empty((images, height, width, channels), np.float32)
        _stencil_loop(
            padded.reshape(images, height + top + bottom, -1),
            dy,
            dx * channels,
            weights.astype(np.float32),
            out.reshape(images, height, -1),
        )
        return torch.from_numpy(out)
    rows = torch.from_numpy(fold(np.arange(-top, height + bottom), height, border)).to(x.device)
    columns = torch.from_numpy(fold(np.arange(-left, width + right), width, border)).to(x.device)
    wide = x.index_select(1, rows).index_select(2, columns)
    return _stencil_torch(wide, dy, dx, weights, (images, height, width, channels))


def _stencil_torch(padded: Tensor, dy: Indices, dx: Indices, weights: Array, shape: tuple[int, ...]) -> Tensor:
    images, height, width, _ = shape
    image = torch.arange(images, device=padded.device)[:, None, None]
    y = torch.arange(height, device=padded.device)[None, :, None]
    x = torch.arange(width, device=padded.device)[None, None, :]
    ty, tx, tw = (torch.from_numpy(values).to(padded.device) for values in (dy, dx, weights.astype(np.float32)))
    out = torch.zeros(shape, device=padded.device)
    for k in range(dy.shape[1]):
        taps = padded[image, y + ty[:, k, None, None], x + tx[:, k, None, None]]
        out += tw[:, k, None, None, None] * taps
    return out


@compiled
def _stencil_loop(
    x: npt.NDArray[np.float32],
    dy: Indices,
    dx: Indices,
    weights: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    for image in range(out.shape[0]):
        which = image if dy.shape[0] > 1 else 0
        for row in range(out.shape[1]):
            _weigh(x[image], row, dy[which], dx[which], weights[which], out[image, row])
