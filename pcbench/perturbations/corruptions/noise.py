"""The noise corruptions. Each takes pictures and gives (B, H, W, 3) float32 (or uint8) on the scale 0..255."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcbench.perturbations.corruptions.constants import Constants
from pcbench.perturbations.corruptions.draws import Draws
from pcbench.perturbations.corruptions.kernels import compiled, on_cpu
from pcbench.perturbations.corruptions.pictures import Pictures


def gaussian_noise(pictures: Pictures, constants: Constants, draws: Draws) -> Tensor:
    """Adds normal noise of deviation c0 (for values in 0..1).

    The definition given the same normal numbers, to 1 grey level; mean RMSE within 0.1 % of the reference.
    """
    (deviation,) = constants
    return draws.normal(pictures.images.shape[1:]).mul_(255 * deviation).add_(pictures.images)


def speckle_noise(pictures: Pictures, constants: Constants, draws: Draws) -> Tensor:
    """Adds normal noise of deviation c0 times the value.

    The definition given the same normal numbers, to 1 grey level; mean RMSE within 0.1 % of the reference.
    """
    (deviation,) = constants
    return draws.normal(pictures.images.shape[1:]).mul_(deviation).add_(1).mul_(pictures.images)


def impulse_noise(pictures: Pictures, constants: Constants, draws: Draws) -> Tensor:
    """Sets a fraction c0 of the values (each channel by itself) to 0 or 255, with equal chances.

    The definition given the same words, bit for bit; mean RMSE within 0.2 % of the reference.
    """
    (amount,) = constants
    images = pictures.images
    words = draws.words(images.shape[1:])
    changed = ((words >> 1 & 0x7FFFFFFF) < round(amount * 2**31)).to(torch.uint8).neg_()  # 255 or 0
    extreme = (words & 1).neg_().to(torch.uint8)
    return images & ~changed | extreme & changed


def shot_noise(pictures: Pictures, constants: Constants, draws: Draws) -> Tensor:
    """Replaces each value x (of 0..1) by Poisson(c0 x) / c0.

    Each value's distribution is Poisson's to 1e-6; mean RMSE within 0.1 % of the reference.
    """
    (photons,) = constants
    images = pictures.images
    table = poisson_table(photons)
    bits = table.columns.bit_length() - 1
    words = draws.words(images.shape[1:])
    if on_cpu(images):
        out = np.empty(images.shape, np.uint8)
        _shot_loop(images.numpy(), words.numpy(), bits, *table.arrays(), out)
        return torch.from_numpy(out)
    column = words >> (32 - bits) & (table.columns - 1)
    cell = images.to(torch.int32).mul_(table.columns).add_(column)
    rest = words & (2 ** (32 - bits) - 1)
    threshold = table.thresholds.to(images.device)[cell]
    return torch.where(rest < threshold, table.own.to(images.device)[column], table.alias.to(images.device)[cell])


@compiled
def _shot_loop(
    images: npt.NDArray[np.uint8],
    words: npt.NDArray[np.int32],
    bits: int,
    thresholds: npt.NDArray[np.int32],
    own: npt.NDArray[np.uint8],
    alias: npt.NDArray[np.uint8],
    out: npt.NDArray[np.uint8],
) -> None:
    greys, drawn, result = images.reshape(-1), words.reshape(-1), out.reshape(-1)
    shift = np.uint32(32 - bits)
    rest = np.uint32(2 ** (32 - bits) - 1)
    for i in range(result.size):
        word = np.uint32(drawn[i])
        column = word >> shift
        cell = (np.uint32(greys[i]) << np.uint32(bits)) + column
        result[i] = own[column] if np.int32(word & rest) < thresholds[cell] else alias[cell]


class PoissonTable:
    """Walker's alias tables for the 256 grey levels: one look-up draws the outcome of a Poisson variable.

    Of a word's bits, the high ones choose a column; the rest decides between the column's own outcome and its alias.

    Attributes:
        columns: number of columns, a power of 2.
        thresholds: (256 * columns,) int32: the column's own outcome is taken where the rest is below it.
        own: (columns,) uint8: the grey level of each column's own outcome.
        alias: (256 * columns,) uint8: the grey level of the alias.
    """

    def __init__(self, photons: float) -> None:
        outcomes = int(photons) + 1  # more photons than that are white too
        self.columns = 2 ** max(outcomes - 1, 1).bit_length()
        levels = np.clip(np.arange(self.columns) / photons, 0, 1) * 255
        unit = 2**32 // self.columns
        thresholds = np.empty((256, self.columns), np.int64)
        alias = np.empty((256, self.columns), np.int64)
        for grey in range(256):
            thresholds[grey], alias[grey] = _alias(_poisson(grey / 255 * photons, outcomes, self.columns), unit)
        self.thresholds = torch.from_numpy(thresholds.ravel().astype(np.int32))
        self.own = torch.from_numpy(levels.astype(np.uint8))
        self.alias = torch.from_numpy(levels.astype(np.uint8)[alias.ravel()])

    def arrays(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """thresholds, own and alias as NumPy arrays."""
        return self.thresholds.numpy(), self.own.numpy(), self.alias.numpy()


@lru_cache(maxsize=10)
def poisson_table(photons: float) -> PoissonTable:
    """The tables for one c0; made once a process."""
    return PoissonTable(photons)


def _poisson(mean: float, outcomes: int, columns: int) -> npt.NDArray[np.float64]:
    """(columns,): the probabilities of 0, 1, .., and of outcomes - 1 or more in the last one of them."""
    from scipy.stats import poisson

    probabilities = np.zeros(columns)
    probabilities[:outcomes] = poisson.pmf(np.arange(outcomes), mean)
    probabilities[outcomes - 1] += poisson.sf(outcomes - 1, mean)
    return probabilities


def _alias(probabilities: npt.NDArray[np.float64], unit: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Walker's construction in whole units of 1 / 2^32: every column holds `unit` of them."""
    share = np.floor(probabilities * unit * len(probabilities)).astype(np.int64)
    share[probabilities.argmax()] += unit * len(probabilities) - share.sum()
    thresholds, alias = np.full(len(share), unit), np.arange(len(share))
    small, large = list(np.flatnonzero(share < unit)), list(np.flatnonzero(share >= unit))
    while small and large:
        poor, rich = small.pop(), large[-1]
        thresholds[poor], alias[poor] = share[poor], rich
        share[rich] -= unit - share[poor]
        if share[rich] < unit:
            small.append(large.pop())
    return thresholds, alias
