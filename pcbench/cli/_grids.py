"""Tables of a comparison as text for the terminal."""

from collections.abc import Sequence
from string import ascii_uppercase

from rich import box
from rich.table import Table
from rich.text import Text

from pcbench.report.tables import Grid


class Names:
    """Systems' names as a terminal has room for them: one that is too long is a letter, and a legend says which.

    Args:
        names: of all systems.
        width: of the terminal, in characters.
    """

    def __init__(self, names: Sequence[str], width: int) -> None:
        plain = dict.fromkeys(name.partition(" at t = ")[0] for name in names)
        long = [name for name in plain if 3 * len(name) > width]
        self._short = {name: f"<{_letters(index)}>" for index, name in enumerate(long)}

    def short(self, text: str) -> str:
        """A text with the letters in place of the long names."""
        for name in sorted(self._short, key=len, reverse=True):
            text = text.replace(name, self._short[name])
        return text

    @property
    def legend(self) -> list[str]:
        """A line for each letter."""
        return [f"{letter} is {name}" for name, letter in self._short.items()]


def _letters(index: int) -> str:
    return ascii_uppercase[index] if index < len(ascii_uppercase) else f"A{index}"


def to_rich(grid: Grid, title: str | None = None) -> Table:
    """For the terminal: the best bold, what is not significant grey."""
    table = Table(
        title=Text(grid.title if title is None else title),
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
        box=box.SIMPLE_HEAD,
    )
    for index, column in enumerate(grid.columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for index, row in enumerate(grid.rows):
        styles = ["bold green" if cell.best else "dim" if cell.faint else "" for cell in row]
        table.add_row(*(Text(cell.marked, style=style) for cell, style in zip(row, styles, strict=True)))
        if index + 1 in grid.rules:
            table.add_section()
    return table
