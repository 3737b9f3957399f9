"""The `imagecorruptions` package, made reproducible: the slow implementation that the native one is held against.

The package draws from NumPy's global generator (and, in impulse_noise and glass_blur, from generators of its own). Here
every image gets its own seed, and the global state is put back afterwards. A lock keeps two threads of pcbench apart;
another thread that draws from NumPy's global generator at the same time would still disturb it: use processes.
"""

import threading

import numpy as np
import numpy.typing as npt

from pcbench.extras import require
from pcbench.randomness import key

_lock = threading.Lock()


def corrupt_reference(
    images: npt.NDArray[np.uint8], name: str, severity: int, seed: int, ids: list[str]
) -> npt.NDArray[np.uint8]:
    """Corrupt images one by one with the `imagecorruptions` package.

    Args:
        images: (B, H, W, 3) uint8.
        name: one of constants.NAMES.
        severity: 1-5, the package's constants (those of ImageNet-C) at any image size.
        seed: of the run.
        ids: B image ids.

    Returns:
        (B, H, W, 3) uint8.
    """
    package = require("imagecorruptions", "reference")
    out = np.empty_like(images)
    for i, (image, image_id) in enumerate(zip(images, ids, strict=True)):
        stream = key(seed, image_id, name, severity)
        # These two ignore np.random.seed and take a seed instead; that of glass blur may have 32 bits.
        arguments = {"impulse_noise": {"seed": stream}, "glass_blur": {"seed": stream % 2**32}}.get(name, {})
        with _lock:
            state = np.random.get_state()  # noqa: NPY002 - the package draws from this generator and no other
            try:
                np.random.seed([stream % 2**32, stream >> 32])  # noqa: NPY002
                out[i] = package.corrupt(image, severity=severity, corruption_name=name, **arguments)
            finally:
                np.random.set_state(state)  # noqa: NPY002
    return out
