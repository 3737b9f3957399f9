"""The live display of a training: a bar with the time left, and a line for each finished epoch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Show = Callable[[int, int, str | None], None]


@contextmanager
def display(what: str, *, shown: bool = True) -> Iterator[Show]:
    """A progress bar on stderr, as show(step, steps, line); a line is printed above it.

    Args:
        what: the bar's label.
        shown: False for processes other than the first.
    """
    console = Console(stderr=True, quiet=not shown)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def show(step: int, steps: int, line: str | None) -> None:
            progress.update(task, completed=step, total=steps)
            if line is not None:
                console.print(line, highlight=False)

        yield show
