"""A training on disk: what it was asked, its state to go on from, and its log. Survives a kill at any moment.

    DIR/training.json   recipe and arguments; the same command again goes on, another one is refused
    DIR/state.pt        the latest state: parameters, optimiser, position, log so far
    DIR/log.csv         one row per epoch
    DIR/.lock           held while a process trains

Every file is written beside its place and then moved there, so that it is always whole.
"""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from pcbench.errors import UserError
from pcbench.models.pickles import read_pickled

Row = dict[str, float | int | str]

_LOCK = ".lock"


class TrainingFolder:
    """The folder of one training, locked against other processes for as long as the object, or the process, lives.

    Args:
        path: of the folder; made if need be.
        arguments: what makes the training what it is, plain values. Equal arguments resume.

    Raises:
        UserError: the folder holds another training, or something else, or another process trains in it.
    """

    def __init__(self, path: Path, arguments: Mapping[str, object]) -> None:
        self.path = path
        self._state = path / "state.pt"
        wanted = json.loads(json.dumps(arguments))
        note = path / "training.json"
        foreign = path.exists() and (not path.is_dir() or any(entry.name != _LOCK for entry in path.iterdir()))
        if foreign and not note.is_file():
            raise UserError(f"{path} is not empty and holds no training; give another --output")
        path.mkdir(parents=True, exist_ok=True)
        # One lock a process and folder, however many objects: training and saving may each have their own.
        self._lock = FileLock(path / _LOCK, blocking=False, is_singleton=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise UserError(f"{path} is in use by another training; wait, or give another --output") from None
        if note.is_file():
            self._check(note, wanted)
        else:
            write_whole(note, (json.dumps(wanted, indent=2) + "\n").encode())

    def _check(self, note: Path, wanted: Mapping[str, object]) -> None:
        try:
            found = dict(json.loads(note.read_text(encoding="utf-8")))
        except (ValueError, TypeError, RecursionError):
            raise UserError(f"{note} is damaged; give another --output") from None
        for name in sorted({*wanted, *found}):
            if wanted.get(name) != found.get(name):
                raise UserError(
                    f"{self.path} holds another training: its {name} is {found.get(name)!r}, not "
                    f"{wanted.get(name)!r}; give another --output"
                )

    def load_state(self) -> dict[str, Any] | None:
        """The latest state, on the CPU, or None at the beginning. Raises UserError when it is damaged."""
        if not self._state.is_file():
            return None
        try:
            state = read_pickled(self._state)
        except UserError as error:
            raise UserError(f"{error}; give another --output") from None
        if not isinstance(state, dict):
            raise UserError(f"{self._state} is damaged; give another --output")
        return state

    def save_state(self, state: Mapping[str, object]) -> None:
        """Keep a state: tensors and plain values only."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_whole(self._state, buffer.getvalue())

    def write_log(self, rows: Sequence[Row], name: str = "log.csv") -> None:
        """Write the whole log; it comes from the state, so a resumed training never repeats or loses a row."""
        if not rows:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()} for row in rows
        )
        write_whole(self.path / name, text.getvalue().encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a kill leaves the old one or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
