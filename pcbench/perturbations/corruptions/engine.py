"""`corrupt`: one corruption of a batch of images, at one severity; `corrupt_severities`: at several at once."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcbench.errors import UserError, did_you_mean
from pcbench.extras import require
from pcbench.perturbations.corruptions.constants import CONSTANTS, NAMES, SEVERITIES, Variant
from pcbench.perturbations.corruptions.jpeg import DISK_QUALITY, jpeg_batch
from pcbench.perturbations.corruptions.own import CORRUPTIONS

Images = TypeVar("Images", Tensor, npt.NDArray[Any])
BACKENDS = ("native", "reference")


def corrupt(
    images: Images,
    name: str,
    severity: int,
    *,
    seed: int = 0,
    ids: Sequence[str | int] | None = None,
    jpeg85: bool = False,
    backend: str = "native",
    variant: str = "auto",
    frost_textures: int = 5,
) -> Images:
    """Corrupt a batch of images.

    Args:
        images: (B, H, W, 3) uint8, array or tensor of any device; H and W at least 32.
        name: one of the 19 names in `NAMES`, or a plug-in's, which is made in one way whatever backend and variant.
        severity: 1 to 5.
        seed: of the run.
        ids: B image ids; 0..B-1 when None. An id counts as its text: 7 and "7" are the same image.
        jpeg85: save and load each result as JPEG of quality 85, as the images of the published ImageNet-C were. That
            takes about a quarter of the noise away: results with and without it do not compare.
        backend: "native", or "reference": the `imagecorruptions` package, which has the constants of ImageNet-C only
            and whose elastic_transform and frost are not those of ImageNet-C.
        variant: the severity constants: "imagenet-c", "cifar-c", or "auto": for the native backend "cifar-c" at
            32 x 32 pixels, else "imagenet-c".
        frost_textures: how many photographs the native frost draws from: 5, as the code that made ImageNet-C, or all 6.

    Returns:
        The form, shape and device of `images`. Image i depends on (seed, ids[i], name, severity) and its own pixels
        alone: not on the batch, the order, the number of workers or the device.

    Raises:
        UserError: an unknown name, backend or variant, a severity outside 1-5, images or ids of another form, another
            number of textures or a texture's file missing.
    """
    (made,) = corrupt_severities(
        images,
        name,
        (severity,),
        seed=seed,
        ids=ids,
        jpeg85=jpeg85,
        backend=backend,
        variant=variant,
        frost_textures=frost_textures,
    )
    return made


def corrupt_severities(
    images: Images,
    name: str,
    severities: Sequence[int],
    *,
    seed: int = 0,
    ids: Sequence[str | int] | None = None,
    jpeg85: bool = False,
    backend: str = "native",
    variant: str = "auto",
    frost_textures: int = 5,
) -> list[Images]:
    """Corrupt a batch of images at several severities; what does not depend on the severity is computed once.

    Args:
        images: see `corrupt`, as for all that is not said here.
        name: the corruption.
        severities: each 1 to 5, in any order.
        seed: of the run.
        ids: of the images.
        jpeg85: save and load each result as JPEG.
        backend: "native", or "reference", which computes nothing in common.
        variant: the severity constants.
        frost_textures: 5 or 6.

    Returns:
        For each severity what `corrupt` gives, bit for bit.

    Raises:
        UserError: see `corrupt`.
    """
    own = CORRUPTIONS[name] if name not in NAMES and name in CORRUPTIONS else None
    if own is None:
        _check_choice("corruption", name, [*NAMES, *CORRUPTIONS.names()])
    _check_choice("corruption backend", backend, BACKENDS)
    _check_choice("corruption variant", variant, ("auto", *CONSTANTS))
    for severity in severities:
        if isinstance(severity, bool) or severity not in SEVERITIES:
            raise UserError(f"a corruption's severity is a whole number from 1 to 5, not {severity!r}")
    _check_images(images)
    names = [str(i) for i in (range(len(images)) if ids is None else ids)]
    if len(names) != len(images):
        raise UserError(f"{len(images)} images need {len(images)} ids, not {len(names)}")
    check_means(backend, frost_textures)

    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.require(images, requirements=("C", "W")))
    wanted = [int(severity) for severity in severities]
    made: Sequence[Tensor]
    if own is not None:
        made = [own.apply(tensor, each, seed, names) for each in wanted]
    elif backend == "reference":
        if variant == "cifar-c":
            raise UserError("the reference backend has ImageNet-C's constants only; for cifar-c use backend native")
        from pcbench.perturbations.corruptions.reference import corrupt_reference

        array = tensor.cpu().numpy()
        made = [
            torch.from_numpy(corrupt_reference(array, name, each, seed, names)).to(tensor.device) for each in wanted
        ]
    else:
        from pcbench.perturbations.corruptions.native import corrupt_native

        constants = resolve_variant(variant, *tensor.shape[1:3])
        made = corrupt_native(tensor, name, wanted, constants, seed, names, frost_textures).unbind(0)
    if jpeg85:
        made = [jpeg_batch(each, DISK_QUALITY) for each in made]
    return [each if isinstance(images, Tensor) else each.numpy() for each in made]


def resolve_variant(variant: str, height: int, width: int) -> Variant:
    """The constants that "auto" means for images of this size."""
    if variant == "auto":
        return "cifar-c" if (height, width) == (32, 32) else "imagenet-c"
    return "cifar-c" if variant == "cifar-c" else "imagenet-c"


def check_means(backend: str, textures: object) -> None:
    """Raises UserError: no such number of frost textures, not with this backend, or the backend is not installed."""
    if isinstance(textures, bool) or textures not in (5, 6):
        raise UserError(f"frost has 5 textures, as in ImageNet-C, or 6, not {textures!r}")
    if textures == 6 and backend == "reference":
        raise UserError("the reference backend chooses frost's textures by itself; for 6 of them use backend native")
    if backend == "reference":
        require("imagecorruptions", "reference")


def _check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserError(f"no {what} {value!r}; {did_you_mean(str(value), known)}")


def _check_images(images: Tensor | npt.NDArray[Any]) -> None:
    if not isinstance(images, Tensor | np.ndarray):
        raise UserError(f"images to corrupt are a NumPy array or a torch tensor, not {type(images).__name__}")
    dtype, shape = str(images.dtype).removeprefix("torch."), tuple(images.shape)
    if dtype != "uint8":
        raise UserError(f"images to corrupt are uint8 in 0..255, not {dtype}")
    if len(shape) != 4 or shape[3] != 3:
        raise UserError(f"images to corrupt have the shape (B, H, W, 3), not {shape}")
    if min(shape[1:3]) < 32:
        raise UserError(f"images to corrupt are at least 32 x 32 pixels, not {shape[1]} x {shape[2]}")
