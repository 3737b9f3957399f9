"""Memory on the CPU: what is freed is kept for the next batch, and what is kept does not break it up."""

import ctypes
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep freed blocks; returns whether it could be told.

    Every activation of a network on the CPU is a large block. By default glibc maps each from the system, zeroed page
    by page, and gives it back: for a network of many cheap layers that takes as long as the arithmetic. Decides
    nothing about results. Elsewhere than on Linux with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    wanted = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, 2**26))
    return all(bool(mallopt(name, value)) for name, value in wanted)


class Growing:
    """An array that grows along its last axis, the images.

    One block that doubles: small arrays kept from every batch would lie between the large blocks that activations
    leave behind, break them up, and so make memory grow with the number of images.
    """

    def __init__(self) -> None:
        self._block: NDArray[Any] = np.empty(0)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, part: NDArray[Any]) -> None:
        """(..., n) more."""
        end = self._length + part.shape[-1]
        if end > self._block.shape[-1] or not self._length:
            grown = np.empty((*part.shape[:-1], max(2 * end, 1024)), part.dtype)
            if self._length:
                grown[..., : self._length] = self._block[..., : self._length]
            self._block = grown
        self._block[..., self._length : end] = part
        self._length = end

    def cut(self, length: int) -> None:
        """Drop what came after so many."""
        self._length = min(self._length, length)

    def values(self) -> NDArray[Any]:
        """(..., n) of all parts."""
        return self._block[..., : self._length]
