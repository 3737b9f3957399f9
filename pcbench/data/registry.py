"""Data sets by name or path: `load_data`, `list_data`, and what a run takes when the user names none."""

import os
from pathlib import Path

from pcbench.data.dataset import DATA, TRAIN
from pcbench.data.images import ImageSet
from pcbench.data.paths import open_path, public_name
from pcbench.errors import UserError, did_you_mean

SAMPLES = "samples"
"""What stands for the samples of the data set whose classes the models know."""


def list_data() -> list[dict[str, object]]:
    """Every registered data set: name, description, label_space, at_hand, needs."""
    return [
        {
            "name": name,
            "description": source.description,
            "label_space": source.label_space,
            "at_hand": source.at_hand(),
            "needs": source.needs,
        }
        for name, source in DATA
    ]


def load_data(name: str) -> ImageSet:
    """What a run evaluates: a data set by its registered name, by path, or by "package.module:function".

    A path: a folder of class folders, a .npz file, a corrupted copy, or what a registered data set comes as. For
    "package.module:function" see `pcbench.data.dataset.adopt`.

    Raises:
        UserError: no such name, path or function, or the data are not as they should be.
    """
    images = _open(name, None)
    assert images is not None  # what is evaluated there always is
    return images


def load_part(name: str, part: str) -> ImageSet | None:
    """The training or the test images of what `load_data` takes.

    Args:
        name: see `load_data`.
        part: "train" or "test". Data without parts are all for training.

    Returns:
        The images; None when there is no test part.

    Raises:
        UserError: as `load_data`; also when there are test images, but none for training.
    """
    images = _open(name, part)
    if images is None and part == TRAIN:
        raise UserError(f"data {name} has no training images")
    return images


def choose_data(name: str | None, label_space: str) -> tuple[ImageSet, str | None]:
    """The images of a run whose models know the classes of `label_space`, and a notice when the choice was ours.

    Raises:
        UserError: no such data, nothing at hand, or labels of other classes than the models know.
    """
    notice = None
    known = DATA[label_space] if label_space in DATA else None  # noqa: SIM401 - not a dict
    if name is None:
        wanted = [] if known is None else [label_space, *([known.samples] if known.samples else [])]
        at_hand = [candidate for candidate in wanted if DATA[candidate].at_hand()]
        if not at_hand:
            raise UserError(f"no data for models of {label_space} at hand; name some: --data NAME|PATH")
        name = at_hand[0]
        notice = f"data: {name}, {DATA[name].description}"
        if name != wanted[0]:
            notice += f"; {wanted[0]} is not at hand: {DATA[wanted[0]].needs}"
    elif name == SAMPLES and known is not None and known.samples not in (None, SAMPLES):
        name = str(known.samples)
        notice = f"data: {name}, {DATA[name].description}"
    images = load_data(name)
    if images.label_space != label_space:
        raise UserError(f"data {images.name} has labels of {images.label_space}; the models know {label_space}")
    return images, notice


def _open(name: str, part: str | None) -> ImageSet | None:
    if name in DATA:
        return DATA[name].open(part)
    path = Path(name).expanduser()
    if os.path.lexists(path):
        return open_path(path, public_name(path), part)
    if len(path.parts) > 1 or name.startswith((".", "~")):
        raise UserError(f"no data folder {name}")
    raise UserError(f"no data set or folder {name!r}; {did_you_mean(name, DATA.names())}")
