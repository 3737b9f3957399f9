"""Whose classes labels are, and which class index a folder's name means."""

from collections.abc import Sequence

from pcbench.data.dataset import DATA
from pcbench.errors import UserError, did_you_mean


def class_names(space: str) -> Sequence[str]:
    """Names of the class folders of a label space, by class index.

    Raises:
        UserError: no data set defines these classes.
    """
    source = DATA[space]
    if source.classes is None:
        raise UserError(f"data set {space} has the classes of {source.label_space}")
    return source.classes()


def class_indices(folders: Sequence[str], where: str, space: str | None = None) -> tuple[str, dict[str, int]]:
    """The label space that folder names belong to, and each folder's class index.

    An index comes from the name in the canonical list, never from the folder's position, so any subset of the classes
    works.

    Args:
        folders: names of class folders, at least one.
        where: what the folders belong to, for messages.
        space: the label space to take where several have all the names.

    Returns:
        (name of the label space, {folder: class index}).

    Raises:
        UserError: a name that is in no list, names of several, or names that several have.
    """
    known = {name: {label: index for index, label in enumerate(class_names(name))} for name in _spaces()}
    count = {name: sum(folder in indices for folder in folders) for name, indices in known.items()}
    most = max(count.values())
    if not most:
        raise UserError(f"{where} has unknown class folders: {_some(folders)}; known are {_described()}")
    best = [name for name in count if count[name] == most]
    chosen = space if space in best else best[0]
    unknown = [folder for folder in folders if folder not in known[chosen]]
    if unknown:
        raise UserError(
            f"{where} has class folders of {chosen}, but also unknown ones: {_some(unknown)}; "
            f"{did_you_mean(unknown[0], known[chosen])}"
        )
    if len(best) > 1 and space not in best:
        raise UserError(
            f"{where} has class folders that are of {' and of '.join(best)}; say which by the environment variable of "
            "one (see `pcbench data`)"
        )
    return chosen, {folder: known[chosen][folder] for folder in folders}


def space_of_labels(largest: int, size: tuple[int, ...], where: str) -> str:
    """The label space of numbers from 0 to `largest`: the smallest that has them, of data sets of this size.

    Args:
        largest: of the labels.
        size: height and width of the images in pixels.
        where: what the labels belong to, for messages.

    Raises:
        UserError: there is none, or more than one.
    """
    sizes = {name: len(class_names(name)) for name in _spaces() if (DATA[name].side, DATA[name].side) == size}
    fitting = {name: size for name, size in sizes.items() if size > largest}
    best = [name for name, size in fitting.items() if size == min(fitting.values())]
    if len(best) != 1:
        found = f"which {' and '.join(best)} have" if best else "which no known data set has"
        raise UserError(
            f"{where} has labels up to {largest} of images of {size[0]} x {size[1]} pixels, {found}; say whose classes "
            f"they are by the environment variable of the data set (see `pcbench data`), or by an array label_space in "
            f"a .npz file, one of {', '.join(_spaces())}"
        )
    return best[0]


def _spaces() -> list[str]:
    return [name for name, source in DATA if source.classes is not None]


def _described() -> str:
    return "; ".join(f"those of {name} ({', '.join(class_names(name)[:3])}, ...)" for name in _spaces())


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
