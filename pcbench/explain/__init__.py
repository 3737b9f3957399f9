"""The texts behind `pcbench explain TOPIC`: Markdown files in this folder, which are pages of the documentation too.

An error line may end in "see `pcbench explain TOPIC`": a topic's name is its address, in the terminal and on the site.
"""

from dataclasses import dataclass
from importlib.resources import files

from pcbench.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Topic:
    """A text.

    Attributes:
        name: its address, e.g. "dynamics".
        title: its heading.
        text: Markdown, heading included.
    """

    name: str
    title: str
    text: str


def topics() -> list[Topic]:
    """All topics, by name."""
    found = sorted(
        (entry for entry in files(__package__).iterdir() if entry.name.endswith(".md")), key=lambda e: e.name
    )
    return [_read(entry.name.removesuffix(".md"), entry.read_text(encoding="utf-8")) for entry in found]


def topic(name: str) -> Topic:
    """The topic of that name. Raises UserError with the closest known names.

    >>> topic("glossary").title
    'Glossary'
    """
    known = {each.name: each for each in topics()}
    if name not in known:
        raise UserError(f"no topic {name!r}; {did_you_mean(name, known)}")
    return known[name]


def _read(name: str, text: str) -> Topic:
    heading = text.partition("\n")[0]
    return Topic(name, heading.removeprefix("# "), text)
