"""A corruption: stripes, brighter with the severity, at a random place."""

import numpy as np
from numpy.typing import NDArray

import pcbench


@pcbench.corruption(group="digital")
def stripes(image: NDArray[np.uint8], severity: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> the same form."""
    made = image.astype(np.int16)
    made[rng.integers(8) :: 8] += 40 * severity
    return made.clip(0, 255).astype(np.uint8)
