"""Who is told how a run gets on: nobody, several at once, or a file for programs. The terminal's is in cli/."""

import contextlib
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pcbench.harness.evaluate import Finished, Glance
from pcbench.results.provenance import now


class Progress:
    """Is told how a run gets on, and says nothing. `pcbench.cli._display.Display` says it to a person."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def say(self, text: str) -> None:
        """What is going on now."""

    def notice(self, text: str) -> None:
        """A choice that was made for the user."""

    def images(self, done: int, total: int) -> None:
        """Images read so far."""

    def start(self, cells: int, done: int, images: int) -> None:
        """The sweep begins: so many cells, some of them finished before, of so many images each."""

    def batch(self, glance: Glance, images: int) -> None:
        """Some images of a cell are done."""

    def cell(self, finished: Finished) -> None:
        """A cell is finished and kept."""


class Everyone(Progress):
    """Tells several how the sweep gets on."""

    def __init__(self, *told: Progress) -> None:
        self._told = told

    def start(self, cells: int, done: int, images: int) -> None:
        """The sweep begins."""
        for each in self._told:
            each.start(cells, done, images)

    def batch(self, glance: Glance, images: int) -> None:
        """Some images of a cell are done."""
        for each in self._told:
            each.batch(glance, images)

    def cell(self, finished: Finished) -> None:
        """A cell is finished and kept."""
        for each in self._told:
            each.cell(finished)


class Journal(Progress):
    """Progress for programs: a file of JSON lines, appended to, the last one telling the state.

    Every line has `time` (UTC), `event`, `cells` and `done` (numbers of cells, in all and finished),
    `images_per_second` and `seconds_left` (null while unknown); by event, further:
    - "start": `images`, of each cell. A run that goes on appends another "start".
    - "progress" (every 5 seconds at most) and "cell" (finished and kept): `model`, `perturbation`, `severity`, `first`
      and `last` (accuracy at t = 0 and t = T, of the cell's images so far).
    - "end": `ended`, which is "complete" or the name of what ended the run ("KeyboardInterrupt", "RunError"). A run
      that was killed has no such line.
    The file is a convenience: when it cannot be written, the run goes on without it.

    Args:
        path: of the file.
        every: least number of seconds between two lines of "progress".
    """

    def __init__(self, path: Path, every: float = 5.0) -> None:
        self._path = path
        self._every = every
        self._began = self._said = time.monotonic()
        self._cells = self._done = self._left = self._seen = 0

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._write("end", {"ended": "complete" if kind is None else kind.__name__})

    def start(self, cells: int, done: int, images: int) -> None:
        """The sweep begins."""
        self._began = self._said = time.monotonic()
        self._cells, self._done, self._left = cells, done, (cells - done) * images
        self._cut()
        self._write("start", {"images": images})

    def _cut(self) -> None:
        """Drop the beginning of a line that an earlier process could not finish: killed, or on a full disk."""
        with contextlib.suppress(OSError), self._path.open("rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)

    def batch(self, glance: Glance, images: int) -> None:
        """Some images of a cell are done."""
        self._seen += images
        if time.monotonic() - self._said >= self._every:
            self._write("progress", _figures(glance))

    def cell(self, finished: Finished) -> None:
        """A cell is finished and kept."""
        self._done += 1
        self._write("cell", _figures(finished.glance))

    def _write(self, event: str, more: dict[str, object]) -> None:
        self._said = time.monotonic()
        rate = self._seen / (self._said - self._began) if self._said > self._began else 0.0
        left = (self._left - self._seen) / rate if rate else None
        line = {
            "time": now(),
            "event": event,
            "cells": self._cells,
            "done": self._done,
            "images_per_second": round(rate, 2),
            "seconds_left": None if left is None else round(left, 1),
            **more,
        }
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _figures(glance: Glance) -> dict[str, object]:
    first, last = (count / glance.images for count in glance.correct)
    return {
        "model": glance.label,
        "perturbation": glance.condition.perturbation,
        "severity": glance.condition.severity,
        "first": round(first, 6),
        "last": round(last, 6),
    }


def silent() -> Progress:
    """Nothing is said."""
    return Progress()
