"""Corruptions of the user's own: `pcbench.corruption` declares a function of one image, and a name makes it one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcbench.errors import UserError
from pcbench.randomness import numpy_generator
from pcbench.registry import Registry
from pcbench.sourcecode import source_digest

Image8 = NDArray[np.uint8]
Corrupt = Callable[[Image8, int, np.random.Generator], Image8]
"""(image (H, W, 3) uint8, severity 1..5, random numbers) -> an image of the same form; its own is left as it is."""

_DECLARATION = "__pcbench_corruption__"
Declared = TypeVar("Declared", bound=Callable[..., Any])


@dataclass(frozen=True)
class corruption:  # noqa: N801 - it is used as a decorator
    """Declares a function (image, severity, rng) -> image as a corruption.

    The image is uint8 (H, W, 3) in 0..255, severity is 1 to 5, rng a NumPy generator whose stream depends on the run's
    seed, the image's id, the corruption's name and the severity. Whatever is random must come from it.

    Args:
        group: for means over groups: "noise", "blur", "weather", "digital", or one of one's own.

    Example::

        @pcbench.corruption(group="digital")
        def stripes(image, severity, rng):
            made = image.astype("int16")
            made[rng.integers(8) :: 8] += 40 * severity
            return made.clip(0, 255).astype("uint8")

        # in a suite file:  [[perturbations]]  kind = "corruption"  names = ["mymodule:stripes"]
    """

    group: str

    def __call__(self, function: Declared) -> Declared:
        """Declare a function; it is returned unchanged."""
        setattr(function, _DECLARATION, self)
        return function


@dataclass(frozen=True)
class OwnCorruption:
    """A corruption that is not of ImageNet-C.

    Attributes:
        name: what users type.
        group: for means over groups.
        function: see `pcbench.corruption`.
        source: SHA-256 over its source.
    """

    name: str
    group: str
    function: Corrupt
    source: str

    def apply(self, images: Tensor, severity: int, seed: int, ids: Sequence[str]) -> Tensor:
        """(B, H, W, 3) uint8 -> the same form and device. Raises UserError: it fails, or gives another form."""
        made = []
        for image, name in zip(images.cpu().numpy(), ids, strict=True):
            try:
                found = self.function(image, severity, numpy_generator(seed, name, self.name, severity))
            except Exception as error:
                raise UserError(f"corruption {self.name} fails: {type(error).__name__}: {error}") from error
            if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.shape != image.shape:
                form = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
                raise UserError(f"corruption {self.name} gives {form} for an image that is uint8 {image.shape}")
            made.append(torch.from_numpy(np.ascontiguousarray(found)))
        return torch.stack(made).to(images.device)


def _adopt(name: str, thing: object) -> OwnCorruption:
    declared = getattr(thing, _DECLARATION, None)
    if not callable(thing) or not isinstance(declared, corruption):
        raise UserError(f'{name} is no corruption: declare the function, @pcbench.corruption(group="digital") above it')
    return OwnCorruption(name, declared.group, thing, source_digest([thing]))


CORRUPTIONS = Registry[OwnCorruption]("corruption", entry_points="pcbench.corruptions", adopt=_adopt)
"""Those of plug-ins; those of ImageNet-C are in `NAMES`."""
