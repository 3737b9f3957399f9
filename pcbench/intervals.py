"""Intervals of proportions. Imports nothing of ours, so that every part can use it."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

Floats = npt.NDArray[np.float64]


def wilson(correct: Any, n: Any, level: float = 0.95) -> tuple[Floats, Floats]:
    """Wilson's score interval of a proportion.

    Args:
        correct: how many of `n` are right; arrays broadcast.
        n: 1 or more.
        level: coverage.

    Returns:
        (low, high), in [0, 1]; correct / n lies between them, exactly.

    >>> low, high = wilson(0, 20)
    >>> float(low), round(float(high), 4)
    (0.0, 0.1611)
    """
    k, size = np.asarray(correct, dtype=float), np.asarray(n, dtype=float)
    z = float(ndtri(0.5 + level / 2))
    p = k / size
    centre = (p + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * np.sqrt(p * (1 - p) / size + z * z / (4 * size * size))
    return np.clip(np.minimum(centre - half, p), 0, 1), np.clip(np.maximum(centre + half, p), 0, 1)
