"""What the machine can do at most, and what of it a pass uses: operations of matrix products, bytes of memory."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

_SIZE = 2048
_TURNS = 7


def matrix_peak(dtype: torch.dtype, device: str) -> float:
    """Operations (two per multiply-add) per second, the best of a square matrix product and a large convolution.

    Both, since they come from different libraries: on some processors the one for matrices is the slower by far.
    """
    a = torch.randn(_SIZE, _SIZE, device=device).to(dtype)
    product = torch.empty_like(a)
    kernel = torch.randn(512, 512, 3, 3, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    image = torch.randn(4, 512, 56, 56, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        matrices = 2 * _SIZE**3 / _seconds(lambda: torch.mm(a, a, out=product), device)
        convolved = 2 * kernel.numel() * 4 * 56**2 / _seconds(lambda: F.conv2d(image, kernel, padding=1), device)
    return max(matrices, convolved)


def bandwidth(device: str) -> float:
    """Bytes per second read and written by copying a tensor far larger than any cache."""
    source = torch.ones(2**27 if device == "cpu" else 2**30, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _seconds(lambda: target.copy_(source), device)


def operations(network: nn.Module, x: Tensor, timesteps: int) -> int:
    """Operations of the convolutions and matrix products of one pass as it is computed."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(x, timesteps)
    return int(counter.get_total_flops())


def _seconds(work: Callable[[], object], device: str) -> float:
    """The median of some turns after a first one."""
    seconds = []
    for _ in range(_TURNS + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
