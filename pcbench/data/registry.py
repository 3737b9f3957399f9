"""Data sets by name or path: `load_data`, `list_data`, and what a run takes when the user names none."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pcbench.data.images import ImageSet
from pcbench.errors import UserError, did_you_mean
from pcbench.registry import Registry, instance_of


@dataclass(frozen=True)
class DataSource:
    """A registered data set.

    Attributes:
        description: one line.
        label_space: whose classes its labels are.
        at_hand: whether it can be opened now, without network.
        needs: one line: where it is looked for and how to get it; "" when it is always there.
        open: the images. Raises UserError when it is not at hand or not as it should be.
    """

    description: str
    label_space: str
    at_hand: Callable[[], bool]
    needs: str
    open: Callable[[], ImageSet]


@dataclass(frozen=True)
class DataForm:
    """A way in which images can lie on disk, for `--data PATH`.

    Attributes:
        recognises: whether a path looks like this form, cheaply and without raising.
        open: open(path, name) -> the images. Raises UserError.
    """

    recognises: Callable[[Path], bool]
    open: Callable[[Path, str], ImageSet]


DATA = Registry[DataSource](
    "data set", package="pcbench.data", entry_points="pcbench.data", adopt=instance_of(DataSource)
)
FORMS = Registry[DataForm]("form of data", package="pcbench.data")

# What a run takes without --data: the first of its models' label space that is at hand.
DEFAULTS: dict[str, tuple[str, ...]] = {"imagenet": ("imagenet", "samples"), "cifar10": ("cifar10", "samples-cifar10")}


def register_copy(name: str, description: str, variable: str, needs: str, read: Callable[[Path], ImageSet]) -> None:
    """Register a data set of which users have a copy of their own, at the path that an environment variable names.

    Args:
        name: of the data set, and of its classes.
        description: one line.
        variable: the environment variable.
        needs: one line: what it must name.
        read: opens the copy at a path. Raises UserError.
    """

    def open_copy() -> ImageSet:
        root = os.environ.get(variable)
        if not root:
            raise UserError(f"data set {name} is not at hand: {needs}")
        try:
            images = read(Path(root).expanduser())
        except UserError as error:
            raise UserError(f"{variable}: {error}") from None
        if images.label_space != name:
            raise UserError(f"{variable} names a folder of {images.label_space} classes: {needs}")
        return images

    DATA.register(name, DataSource(description, name, lambda: bool(os.environ.get(variable)), needs, open_copy))


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
    """A data set by its registered name, or by path: a folder of class folders, a .npz file, a corrupted copy.

    Raises:
        UserError: no such name or path, or the data are not as they should be.
    """
    if name in DATA:
        return DATA[name].open()
    path = Path(name).expanduser()
    if not path.exists():
        if len(path.parts) > 1 or name.startswith((".", "~")):
            raise UserError(f"no data folder {name}")
        raise UserError(f"no data set or folder {name!r}; {did_you_mean(name, DATA.names())}")
    called = public_name(path)
    for _, form in FORMS:
        if form.recognises(path):
            return form.open(path, called)
    from pcbench.data.folder import read_folder

    return read_folder(path, called)


def public_name(path: Path) -> str:
    """What records call data at a path: its last part, which says nothing about the machine or its user."""
    last = path.resolve().name
    if last in ("val", "validation", "test"):
        last = f"{path.resolve().parent.name}-{last}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-") or "folder"
    return f"folder-{name}" if name in DATA else name


def choose_data(name: str | None, label_space: str) -> tuple[ImageSet, str | None]:
    """The images of a run whose models know the classes of `label_space`, and a notice when the choice was ours.

    Raises:
        UserError: no such data, nothing at hand, or labels of other classes than the models know.
    """
    notice = None
    if name is None:
        candidates = DEFAULTS.get(label_space, ())
        at_hand = [candidate for candidate in candidates if DATA[candidate].at_hand()]
        if not at_hand:
            raise UserError(f"no data for models of {label_space} at hand; name some: --data NAME|PATH")
        name = at_hand[0]
        notice = f"data: {name}, {DATA[name].description}"
        if name != candidates[0]:
            notice += f"; {candidates[0]} is not at hand: {DATA[candidates[0]].needs}"
    elif name == "samples" and label_space == "cifar10":
        name = "samples-cifar10"
        notice = f"data: {name}, {DATA[name].description}"
    images = load_data(name)
    if images.label_space != label_space:
        raise UserError(f"data {images.name} has labels of {images.label_space}; the models know {label_space}")
    return images, notice
