"""What a registered data set is: one literal, which says everything about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pcbench.data.images import ImageSet
from pcbench.errors import UserError
from pcbench.registry import Registry

TRAIN, TEST = "train", "test"
"""The parts of a data set. No part (None) is what a run evaluates: the test part, or all of what has no parts."""


@dataclass(frozen=True)
class DataForm:
    """A way in which images can lie on disk.

    Attributes:
        recognises: whether a path looks like this form, cheaply and without raising.
        open: open(path, name, part) -> the images, called so; None: it has no such part. What has no parts is wholly
            for training (part "train"), and wholly what a run evaluates (part None). Raises UserError.
    """

    recognises: Callable[[Path], bool]
    open: Callable[[Path, str, str | None], ImageSet | None]


@dataclass(frozen=True)
class DataSet:
    """A registered data set. `users_copy` and `foolbox_samples` make the usual ones.

    Attributes:
        description: one line.
        label_space: whose classes its labels are: its own name, or that of the data set that defines the classes.
        at_hand: whether it can be opened now, without network.
        needs: one line: where it is looked for and how to get it; "" when it is always there.
        open: open(part) -> the images; None: it has no such part (see DataForm). Raises UserError when it is not at
            hand or not as it should be.
        classes: names of its class folders, in the order of the class indices; None when another data set defines them.
        side: of its images in pixels, where all are squares of one size.
        test_images: how many its published test set has; what the arrays of a corrupted copy must have a severity.
        samples: name of the data set that a run takes where this one is not at hand.
        forms: in which only this data set comes. Those in which any may come (class folders, .npz files, corrupted
            copies) are in `pcbench.data.paths`.
        download: download(folder) fetches it and returns how to name what was fetched; None where it must be got by
            hand. Raises UserError.
    """

    description: str
    label_space: str
    at_hand: Callable[[], bool]
    needs: str
    open: Callable[[str | None], ImageSet | None]
    classes: Callable[[], Sequence[str]] | None = None
    side: int | None = None
    test_images: int | None = None
    samples: str | None = None
    forms: tuple[DataForm, ...] = ()
    download: Callable[[Path], str] | None = None


def adopt(name: str, thing: object) -> DataSet:
    """The data set that a plug-in has: a DataSet, an ImageSet, or a function without arguments that returns one.

    Args:
        name: of the plug-in, for messages.
        thing: what lies at its place. Images that are no DataSet are at hand, and have no parts.

    Raises:
        UserError: the function raises, or it is none of these.
    """
    made = thing
    if callable(thing) and not isinstance(thing, ImageSet):
        try:
            made = thing()
        except UserError:
            raise
        except Exception as error:  # it is somebody else's code, which may raise anything
            raise UserError(f"data {name} cannot be made: {type(error).__name__}: {error}") from error
    if isinstance(made, DataSet):
        return made
    if not isinstance(made, ImageSet):
        raise UserError(f"data {name} is of type {type(made).__name__}; it must be an ImageSet or a DataSet")
    images = made
    return DataSet(
        f"{len(images)} images", images.label_space, lambda: True, "", lambda part: None if part == TEST else images
    )


DATA = Registry[DataSet]("data set", package="pcbench.data.sets", entry_points="pcbench.data", adopt=adopt)
