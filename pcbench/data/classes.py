"""Which class index a folder's name means."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module

from pcbench.errors import UserError, did_you_mean

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@cache
def imagenet_classes() -> Mapping[str, int]:
    """WordNet id -> class index, the canonical list of 1,000 (timm carries it)."""
    names = import_module("timm.data").ImageNetInfo().label_names()  # here: importing timm takes a second
    return {str(wordnet_id): index for index, wordnet_id in enumerate(names)}


def class_names(space: str) -> Sequence[str]:
    """Names of the class folders of a label space, by class index. Raises UserError: nobody defines these classes."""
    known: dict[str, Sequence[str]] = {"imagenet": tuple(imagenet_classes()), "cifar10": CIFAR10}
    if space not in known:
        raise UserError(f"no label space {space!r}; {did_you_mean(space, known)}")
    return known[space]


def class_indices(folders: list[str], where: str) -> tuple[str, dict[str, int]]:
    """The label space that folder names belong to, and each folder's class index.

    An index comes from the name in the canonical list, never from the folder's position, so any subset of the classes
    works.

    Args:
        folders: names of class folders, at least one.
        where: what the folders belong to, for messages.

    Returns:
        ("imagenet" or "cifar10", {folder: class index}).

    Raises:
        UserError: a name that is in neither list, or names of both.
    """
    known: dict[str, Mapping[str, int]] = {
        "imagenet": imagenet_classes(),
        "cifar10": {name: index for index, name in enumerate(CIFAR10)},
    }
    space = max(known, key=lambda name: sum(folder in known[name] for folder in folders))
    unknown = [folder for folder in folders if folder not in known[space]]
    if len(unknown) == len(folders):
        raise UserError(
            f"{where} has unknown class folders: {_some(unknown)}; known are WordNet ids of ImageNet (n01440764, ...) "
            f"and the classes of CIFAR-10 ({', '.join(CIFAR10)})"
        )
    if unknown:
        raise UserError(
            f"{where} has class folders of {space}, but also unknown ones: {_some(unknown)}; "
            f"{did_you_mean(unknown[0], known[space])}"
        )
    return space, {folder: known[space][folder] for folder in folders}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
