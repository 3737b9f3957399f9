"""Tables of a comparison as text for the terminal."""

from rich import box
from rich.table import Table
from rich.text import Text

from pcbench.report.tables import Grid


def to_rich(grid: Grid) -> Table:
    """For the terminal: the best bold, what is not significant grey."""
    table = Table(
        title=Text(grid.title),
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
