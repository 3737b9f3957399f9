"""Images at a path, in whatever form they lie there, and data sets of which users have a copy of their own."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pcbench.data.arrays import read_image_array
from pcbench.data.corrupted import has_corrupted_arrays, has_corruption_folders, read_cifar_c, read_imagenet_c
from pcbench.data.dataset import DATA, TEST, TRAIN, DataForm, DataSet
from pcbench.data.folder import read_folder
from pcbench.data.images import ImageSet
from pcbench.errors import UserError


def open_path(path: Path, name: str, part: str | None = None, mine: DataSet | None = None) -> ImageSet | None:
    """The images at a path: a .npz file, a corrupted copy, a folder of class folders, or a form of one data set only.

    Args:
        path: of a file or a folder.
        name: what to call the images.
        part: "train", "test", or None for what a run evaluates; see DataForm.
        mine: the data set to take where what lies there could be of several; it need not be registered.

    Returns:
        The images; None when there is no such part.

    Raises:
        UserError: nothing is there, or it is not as it should be.
    """
    for form in [*(mine.forms if mine else ()), *(form for _, source in DATA for form in source.forms)]:
        if form.recognises(path):
            return form.open(path, name, part)
    if path.suffix == ".npz":
        return read_image_array(path, name, part or TEST, mine)
    copies = ((has_corrupted_arrays, read_cifar_c), (has_corruption_folders, read_imagenet_c))
    for recognises, read in copies:
        if recognises(path):
            if part == TRAIN:
                raise UserError(f"data {name} is a corrupted copy, which is for evaluation")
            return None if part == TEST else read(path, name)
    return read_folder(path, name, part, mine)


def users_copy(
    name: str,
    description: str,
    variable: str,
    needs: str,
    *,
    classes: Callable[[], Sequence[str]],
    side: int | None = None,
    test_images: int | None = None,
    samples: str | None = None,
    forms: tuple[DataForm, ...] = (),
    download: Callable[[Path], str] | None = None,
) -> DataSet:
    """A data set, with classes of its own, of which users have a copy, at the path that an environment variable names.

    Args:
        name: of the data set, and of its classes.
        description: see DataSet.
        variable: the environment variable.
        needs: one line: what it must name.
        classes: see DataSet.
        side: see DataSet.
        test_images: see DataSet.
        samples: see DataSet.
        forms: see DataSet.
        download: see DataSet.
    """

    def open_copy(part: str | None) -> ImageSet | None:
        root = os.environ.get(variable)
        if not root:
            raise UserError(f"data set {name} is not at hand: {needs}")
        try:
            images = open_path(Path(root).expanduser(), name, part, made)
        except UserError as error:
            raise UserError(f"{variable}: {error}") from None
        if images is not None and images.label_space != name:
            raise UserError(f"{variable} names images with labels of {images.label_space}: {needs}")
        if images is not None and not images.has_clean:
            raise UserError(f"{variable} names a corrupted copy, whose place is --data: {needs}")
        return images

    made = DataSet(
        description,
        name,
        lambda: bool(os.environ.get(variable)),
        needs,
        open_copy,
        classes=classes,
        side=side,
        test_images=test_images,
        samples=samples,
        forms=forms,
        download=download,
    )
    return made


def public_name(path: Path) -> str:
    """What records call data at a path: its last part, which says nothing about the machine or its user."""
    last = path.resolve().name
    if last in ("val", "validation", "test"):
        last = f"{path.resolve().parent.name}-{last}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-") or "folder"
    return f"folder-{name}" if name in DATA else name
