"""Random numbers for corruptions: Philox 4x32-10, a counter-based generator.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Word i of stream s of an image is a function of
(key of the image, s, i) and nothing else, so it is the same in every batch, order, process and on every device.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcbench.perturbations.corruptions.kernels import compiled, on_cpu
from pcbench.randomness import key

_M0, _M1 = 0xD2511F53, 0xCD9E8D57  # multipliers and key increments of the paper
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_SCALARS = 0xFFFF  # the stream of the few numbers that describe a whole image (an angle, a position)


class Draws:
    """The random numbers of a batch of images, for one corruption at one severity.

    Attributes:
        keys: (B,) int64 on the CPU: the images' keys.
        device: where fields of numbers are wanted.
    """

    def __init__(self, keys: Tensor, device: torch.device) -> None:
        self.keys = keys
        self.device = device

    @classmethod
    def for_images(cls, seed: int, ids: Sequence[str], name: str, severity: int, device: torch.device) -> "Draws":
        """The draws that belong to (seed, id, corruption, severity)."""
        return cls(torch.tensor([key(seed, i, name, severity) for i in ids], dtype=torch.int64), device)

    def words(self, shape: tuple[int, ...], stream: int = 0) -> Tensor:
        """(B, *shape) int32: 32 random bits each."""
        count = int(np.prod(shape))
        return philox(self.keys.to(self.device), count, stream).view(len(self.keys), *shape)

    def uniform(self, shape: tuple[int, ...], stream: int = 0) -> Tensor:
        """(B, *shape) float32, uniform in (-1, 1), symmetric, in steps of 2^-23."""
        return _uniform(self.words(shape, stream))

    def normal(self, shape: tuple[int, ...], stream: int = 0) -> Tensor:
        """(B, *shape) float32, standard normal, by inversion of 24 bits: |z| is at most 5.3."""
        return torch.erfinv(self.uniform(shape, stream)).mul_(2**0.5)

    def scalars(self, count: int) -> npt.NDArray[np.float64]:
        """(B, count) float64, uniform in [0, 1): numbers that describe a whole image. Always drawn on the CPU."""
        words = philox(self.keys, count, _SCALARS).numpy().view(np.uint32)
        return words.astype(np.float64) / 2**32


def philox(keys: Tensor, count: int, stream: int) -> Tensor:
    """Random words.

    Args:
        keys: (B,) int64.
        count: how many words for each key.
        stream: which of a key's 2^32 independent streams.

    Returns:
        (B, count) int32 on the keys' device. Block i of four words comes from the counter (i, stream, 0, 0); word j of
        all blocks lie together, in four runs of ceil(count / 4).
    """
    blocks = -(-count // 4)
    if on_cpu(keys):
        out = np.empty((len(keys), 4, blocks), np.uint32)
        _philox_loop(keys.numpy(), stream, out)
        words = torch.from_numpy(out.view(np.int32))
    else:
        words = _philox_torch(keys, blocks, stream)
    return words.view(len(keys), 4 * blocks)[:, :count]


def _uniform(words: Tensor) -> Tensor:
    """(24 high bits + 1/2) / 2^23, as signed numbers: exact in float32, never -1, 0 or 1."""
    return (words >> 8).to(torch.float32).add_(0.5).mul_(2.0**-23)


@compiled
def _philox_loop(keys: npt.NDArray[np.int64], stream: int, out: npt.NDArray[np.uint32]) -> None:
    mask, half = np.uint64(_MASK), np.uint64(32)
    m0, m1, w0, w1 = np.uint64(_M0), np.uint64(_M1), np.uint64(_W0), np.uint64(_W1)
    for image in range(keys.shape[0]):
        first, second, third, fourth = out[image, 0], out[image, 1], out[image, 2], out[image, 3]
        for i in range(out.shape[2]):
            k0, k1 = np.uint64(keys[image]) & mask, np.uint64(keys[image]) >> half
            a, b, c, d = np.uint64(i), np.uint64(stream), np.uint64(0), np.uint64(0)
            for _ in range(10):
                p, q = m0 * a, m1 * c
                a, b, c, d = (q >> half) ^ b ^ k0, q & mask, (p >> half) ^ d ^ k1, p & mask
                k0, k1 = (k0 + w0) & mask, (k1 + w1) & mask
            first[i], second[i], third[i], fourth[i] = a, b, c, d


def _philox_torch(keys: Tensor, blocks: int, stream: int) -> Tensor:
    """The same in 64-bit tensor arithmetic: products wrap as unsigned ones do, shifts are masked."""
    k0, k1 = (keys & _MASK)[:, None], (keys >> 32 & _MASK)[:, None]
    a = torch.arange(blocks, device=keys.device).expand(len(keys), blocks)
    b, c, d = torch.full_like(a, stream), torch.zeros_like(a), torch.zeros_like(a)
    for _ in range(10):
        p, q = a * _M0, c * _M1
        a, b, c, d = (q >> 32 & _MASK) ^ b ^ k0, q & _MASK, (p >> 32 & _MASK) ^ d ^ k1, p & _MASK
        k0, k1 = k0 + _W0 & _MASK, k1 + _W1 & _MASK
    return torch.stack([a, b, c, d], 1).to(torch.int32)
