"""Random numbers that depend on what they are for, and on nothing else.

Every stream is keyed by its purpose (seed, image id, perturbation, severity, ...), so that a result cannot depend on
the batch, the order, the number of workers or a resumed run.
"""

import hashlib

import numpy as np
import torch


def key(*parts: str | int | float) -> int:
    """A 63-bit key for a stream: equal parts give equal keys, on every machine and in every process.

    >>> key(0, "img", "gaussian_noise", 3) == key(0, "img", "gaussian_noise", 3)
    True
    >>> key(0, "ab", "c") == key(0, "a", "bc")
    False
    """
    text = "\x1f".join(f"{type(part).__name__[0]}{part!r}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def torch_generator(*parts: str | int | float) -> torch.Generator:
    """A CPU generator for the stream that the parts name. Draw on the CPU and move: devices draw differently."""
    return torch.Generator().manual_seed(key(*parts))


def numpy_generator(*parts: str | int | float) -> np.random.Generator:
    """A NumPy (Philox) generator for the stream that the parts name."""
    return np.random.Generator(np.random.Philox(key(*parts)))


def normal_like(images: torch.Tensor, seed: int, ids: list[str], *purpose: str | int | float) -> torch.Tensor:
    """Standard normal noise of the shape of a batch, each image's drawn from its own stream.

    Args:
        images: (B, ...) of any device and floating dtype; gives shape, device and dtype only.
        seed: the run's seed.
        ids: B stable image ids.
        purpose: what the noise is for, e.g. the condition's name and severity.

    Returns:
        (B, ...) on the images' device. Image i's values depend on (seed, ids[i], purpose) alone.
    """
    drawn = [torch.randn(images.shape[1:], generator=torch_generator(seed, name, *purpose)) for name in ids]
    return torch.stack(drawn).to(images)
