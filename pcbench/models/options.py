"""Options of models: what each may be, read once, from text or from Python, into the form that records have."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pcbench.errors import UserError, did_you_mean

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Read = Callable[[str, object], Json]
"""(name of the option, as it was given) -> its value. Raises UserError, with the name, where it is none."""


def _itself(value: Json) -> Json:
    return value


@dataclass(frozen=True)
class Option:
    """An option that a model's builder knows.

    Attributes:
        help: one line.
        read: from text or Python to the value that the builder is given.
        record: from that value to the one that records and keys hold, where that is another: the content of a file in
            the place of its path.
    """

    help: str
    read: Read
    record: Callable[[Json], Json] = _itself


def read_options(model: str, known: Mapping[str, Option], given: Mapping[str, object]) -> dict[str, Json]:
    """The values of options, in the order of their names.

    Args:
        model: whose they are, for messages.
        known: its options.
        given: as they were given; None for "not given".

    Raises:
        UserError: an unknown option, or a value that cannot be.
    """
    for name in given:
        if name not in known:
            raise UserError(f"{model} has no option {name!r}; {did_you_mean(name, known) if known else 'it has none'}")
    return {name: known[name].read(name, given[name]) for name in sorted(given) if given[name] is not None}


def number(name: str, given: object) -> float:
    """A finite number.

    >>> number("width", "0.5")
    0.5
    """
    try:
        value = float(given)  # type: ignore[arg-type]  # what float cannot read raises below
    except (TypeError, ValueError):
        value = float("nan")
    if isinstance(given, bool) or value != value or value in (float("inf"), float("-inf")):
        raise UserError(f"{name} is {given!r}; it is a number")
    return value


def numbers(name: str, given: object) -> float | list[Json]:
    """A number, or one for each PCoder: a sequence, or text with commas. A single one in a sequence is a number.

    >>> numbers("pc", "0.1, 0.2"), numbers("pc", [0.1])
    ([0.1, 0.2], 0.1)
    """
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]
    try:
        values: list[Json] = [number(name, part) for part in parts]
    except UserError:
        raise UserError(f"{name} is {given!r}; it is a number, or one per PCoder with commas: 0.2,0.4") from None
    return values if len(values) != 1 else number(name, values[0])


def whole(name: str, given: object) -> int:
    """A whole number.

    >>> whole("seed", "3")
    3
    """
    try:
        value = int(str(given))
    except ValueError:
        raise UserError(f"{name} is {given!r}; it is a whole number") from None
    return value


def text(name: str, given: object) -> str:
    """Any text."""
    return str(given)


def existing_file(name: str, given: object) -> str:
    """Path of a file that is there."""
    path = Path(str(given)).expanduser()
    if not path.is_file():
        raise UserError(f"{name} is {str(given)!r}; there is no such file")
    return str(path)


def by_content(value: Json) -> Json:
    """What a record says of a file: its name, and enough of its SHA-256 to tell another content of the same name."""
    path = Path(str(value))
    return f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def one_of(*known: str) -> Read:
    """One of some words."""

    def read(name: str, given: object) -> str:
        if given not in known:
            raise UserError(f"{name} is {given!r}; {did_you_mean(str(given), known)}")
        return str(given)

    return read
