"""Whose classes labels are, and which class index a folder's name means."""

from collections.abc import Sequence

from pcbench.data.dataset import DATA, DataSet
from pcbench.errors import UserError, did_you_mean


def class_names(space: str, mine: DataSet | None = None) -> Sequence[str]:
    """Names of the class folders of a label space, by class index.

    Args:
        space: name of the label space.
        mine: a data set to ask first, which need not be registered.

    Raises:
        UserError: no data set defines these classes.
    """
    source = mine if mine is not None and mine.label_space == space else DATA[space]
    if source.classes is None:
        raise UserError(f"data set {space} has the classes of {source.label_space}")
    return source.classes()


def class_indices(folders: Sequence[str], where: str, mine: DataSet | None = None) -> tuple[str, dict[str, int]]:
    """The label space that folder names belong to, and each folder's class index.

    An index comes from the name in the canonical list, never from the folder's position, so any subset of the classes
    works.

    Args:
        folders: names of class folders, at least one.
        where: what the folders belong to, for messages.
        mine: the data set to take where several have all the names; it need not be registered.

    Returns:
        (name of the label space, {folder: class index}).

    Raises:
        UserError: a name that is in no list, names of several, or names that several have.
    """
    spaces = _spaces(mine)
    known = {space: {name: index for index, name in enumerate(class_names(space, mine))} for space in spaces}
    count = {space: sum(folder in indices for folder in folders) for space, indices in known.items()}
    most = max(count.values())
    if not most:
        described = "; ".join(f"those of {space} ({', '.join(list(known[space])[:3])}, ...)" for space in spaces)
        raise UserError(f"{where} has unknown class folders: {_some(folders)}; known are {described}")
    best = [space for space in count if count[space] == most]
    preferred = mine is not None and mine.label_space in best
    chosen = mine.label_space if mine is not None and preferred else best[0]
    unknown = [folder for folder in folders if folder not in known[chosen]]
    if unknown:
        raise UserError(
            f"{where} has class folders of {chosen}, but also unknown ones: {_some(unknown)}; "
            f"{did_you_mean(unknown[0], known[chosen])}"
        )
    if len(best) > 1 and not preferred:
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
    spaces = _spaces()
    sizes = {space: len(class_names(space)) for space in spaces if (DATA[space].side, DATA[space].side) == size}
    fitting = {space: count for space, count in sizes.items() if count > largest}
    best = [space for space, count in fitting.items() if count == min(fitting.values())]
    if len(best) != 1:
        found = f"which {' and '.join(best)} have" if best else "which no known data set has"
        raise UserError(
            f"{where} has labels up to {largest} of images of {size[0]} x {size[1]} pixels, {found}; say whose classes "
            f"they are by the environment variable of the data set (see `pcbench data`), or by an array label_space in "
            f"a .npz file, one of {', '.join(spaces)}"
        )
    return best[0]


def _spaces(mine: DataSet | None = None) -> list[str]:
    """Names of the label spaces that are defined."""
    named = [name for name, source in DATA if source.classes is not None]
    return named if mine is None or mine.label_space in named else [*named, mine.label_space]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
