"""What a run says to a person while it goes on: live in a terminal, else a line now and then; and its log records."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from pcbench.harness.evaluate import Finished, Glance
from pcbench.harness.log import handled
from pcbench.harness.progress import Progress

_LOG_EVERY = 20.0  # seconds


@contextmanager
def log_to_console(level: int, console: Console) -> Iterator[None]:
    """Within, log records from a level on go to a console, above what it shows live."""
    with handled(RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S"), level):
        yield


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.speed or task.finished_speed
        return Text("" if speed is None else f"{speed:,.1f} images/s", style="cyan")


class Display(Progress):
    """Progress on standard error, for a person: live in a terminal, else a line every 20 seconds.

    Args:
        console: where to; standard error by default.
        quiet: only notices.
    """

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False)
        self.quiet = quiet
        self._bars: Bars | None = None
        self._said = time.monotonic()
        self._began = self._said
        self._cells = self._finished = self._left = self._seen = 0

    def __enter__(self) -> Self:
        if self.console.is_terminal and not self.quiet:
            self._bars = Bars(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[cells]}"),
                _Rate(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[accuracy]}"),
                console=self.console,
                transient=True,
            )
            self._bars.start()
            self._task = self._bars.add_task("", total=None, cells="", accuracy="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """What is going on now."""
        if self._bars is not None:
            self._bars.update(self._task, description=text, cells="", accuracy="")
        elif not self.quiet:
            self.console.print(text, soft_wrap=True)

    def notice(self, text: str) -> None:
        """A choice that was made for the user."""
        self.console.print(f"notice: {text}", style="yellow", soft_wrap=True)

    def images(self, done: int, total: int) -> None:
        """Images read so far."""
        if self._bars is not None:
            self._bars.update(self._task, completed=done, total=total)

    def start(self, cells: int, done: int, images: int) -> None:
        """The sweep begins."""
        self._cells, self._finished, self._left = cells, done, (cells - done) * images
        self._began = time.monotonic()
        if done and not self.quiet:
            self.console.print(f"going on: {done} of {cells} cells are finished already", soft_wrap=True)
        if self._bars is not None:
            self._bars.remove_task(self._task)
            self._task = self._bars.add_task("", total=(cells - done) * images, cells=f"{done}/{cells}", accuracy="")

    def batch(self, glance: Glance, images: int) -> None:
        """Some images of a cell are done."""
        self._seen += images
        what = f"{glance.label} · {glance.condition.label}"
        first, last = (count / glance.images for count in glance.correct)
        accuracy = f"accuracy t=0 {first:.1%}"
        if glance.timesteps:
            accuracy += f"  t={glance.timesteps} {last:.1%}"
        if self._bars is not None:
            cells = f"{self._finished}/{self._cells} cells"
            self._bars.update(self._task, description=what, advance=images, cells=cells, accuracy=accuracy)
        elif not self.quiet and time.monotonic() - self._said > _LOG_EVERY:
            self._said = time.monotonic()
            rate = self._seen / (self._said - self._began)
            left = (self._left - self._seen) / rate if rate else 0
            self.console.print(
                f"{self._finished}/{self._cells} cells, {rate:,.1f} images/s, {left / 60:,.1f} min left; "
                f"{what}, {accuracy}",
                soft_wrap=True,
            )

    def cell(self, finished: Finished) -> None:
        """A cell is finished and kept."""
        self._finished += 1
