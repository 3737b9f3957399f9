"""Which code runs where: compiled loops for images in main memory, plain torch for every other device.

A primitive of this package (random words, linear maps, warps, the shuffle of glass_blur, the height map of fog) has
both forms; they do the same arithmetic, and the tests hold one against the other. Everything above the primitives is
written once, in torch.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function over NumPy arrays with numba, once a machine, without the interpreter's lock."""
    return cast("F", numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})(function))


def on_cpu(x: Tensor) -> bool:
    """Whether the compiled form is the one to use for this tensor."""
    return x.device.type == "cpu"
