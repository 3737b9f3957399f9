"""The code that made ImageNet-C, imported from the user's own copy: the package `imagenet_c` of its authors.

It is of 2018 and calls functions that NumPy, SciPy, scikit-image and setuptools have since renamed or taken away; here
they are put back under their old names, and only for this package. Its arithmetic is its own. It needs `wand` and
ImageMagick, and its photographs of frost; where it was installed without these, those of `imagecorruptions` (the same
files) are used.
"""

import importlib
import importlib.resources
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

Image8 = npt.NDArray[np.uint8]
SIZE = 224  # glass_blur, frost, snow and pixelate have it written into them


def load_original(folder: Path) -> Callable[[Image8, str, int], Image8]:
    """The package's `corrupt(image, name, severity)`, of a (224, 224, 3) uint8 image.

    Args:
        folder: that holds the package `imagenet_c`: of a checkout, `ImageNet-C/imagenet_c`; of an installation, its
            site-packages.
    """
    if not (folder / "imagenet_c" / "corruptions.py").is_file():
        raise SystemExit(f"error: {folder} holds no package imagenet_c (with a file corruptions.py)")
    sys.path.append(str(folder))
    sys.modules["scipy.ndimage.interpolation"] = scipy.ndimage
    sys.modules["pkg_resources"] = _Renamed("pkg_resources", resource_filename=_resource)
    package = importlib.import_module("imagenet_c")
    code: Any = importlib.import_module("imagenet_c.corruptions")
    gaussian = code.gaussian
    code.np = _Renamed("numpy", np, float_=np.float64, fromstring=np.frombuffer)
    code.gaussian = lambda image, sigma, multichannel=False, **options: gaussian(
        image, sigma, channel_axis=-1 if multichannel else None, **options
    )
    return lambda image, name, severity: package.corrupt(image, severity, name)


class _Renamed(ModuleType):
    """A module with some names put back."""

    def __init__(self, name: str, module: ModuleType | None = None, **names: object) -> None:
        super().__init__(name)
        self.__dict__.update(vars(module) if module else {}, **names)


def _resource(package: str, name: str) -> str:
    for holder in (package.partition(".")[0], "imagecorruptions"):
        path = importlib.resources.files(holder) / name
        if path.is_file():
            return str(path)
    raise SystemExit(f"error: neither imagenet_c nor imagecorruptions has the file {name}")
