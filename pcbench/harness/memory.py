"""Keep freed memory for the next batch instead of handing it back to the system."""

import ctypes
import sys

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
