"""`imagenet`: the user's own copy of the ImageNet validation images."""

import os
from pathlib import Path

from pcbench.data.folder import FileSet, read_folder
from pcbench.data.registry import DATA, DataSource
from pcbench.errors import UserError

VARIABLE = "PCBENCH_IMAGENET"
NEEDS = (
    f"set {VARIABLE} to a folder with one folder a class, named by WordNet id (n01440764, ...), or with val/ of that "
    "form; any subset of the classes works (get the images from https://image-net.org)"
)


def _open() -> FileSet:
    root = os.environ.get(VARIABLE)
    if not root:
        raise UserError(f"data set imagenet is not at hand: {NEEDS}")
    try:
        images = read_folder(Path(root).expanduser(), "imagenet")
    except UserError as error:
        raise UserError(f"{VARIABLE}: {error}") from None
    if images.label_space != "imagenet":
        raise UserError(f"{VARIABLE} names a folder of {images.label_space} classes: {NEEDS}")
    return images


DATA.register(
    "imagenet",
    DataSource(
        "ImageNet validation images",
        "imagenet",
        at_hand=lambda: bool(os.environ.get(VARIABLE)),
        needs=NEEDS,
        open=_open,
    ),
)
