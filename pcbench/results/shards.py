"""A run in parts, each computed apart in its own directory, and their merge into the whole."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from pcbench.errors import UserError
from pcbench.results.schema import RunInfo
from pcbench.results.store import SHARD, RunStore, intact, read_info

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` parts of a run, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "2/8". Raises UserError.

        >>> Shard.parse("2/8")
        Shard(index=2, count=8)
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"shard is {text!r}; the second of eight parts is 2/8")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def of(self, things: Sequence[T]) -> list[T]:
        """The part's share: every count-th thing."""
        return list(things[self.index - 1 :: self.count])

    def directory(self, run: Path) -> Path:
        """Where the part of a run lies."""
        return run / f"shard-{self.index}-of-{self.count}"


def merge(directory: Path) -> RunInfo:
    """Put the finished shards of a run together: copies their records to `directory`, as one run.

    The result is the one that the whole run gives. Shards are left as they are; merging again changes nothing.

    Raises:
        UserError: there is no shard, or one is missing, unfinished, damaged or of another run.
        RunError: it cannot be written.
    """
    if not directory.is_dir():
        raise UserError(f"no directory {directory}")
    folders = sorted(path for path in directory.iterdir() if path.is_dir() and SHARD.fullmatch(path.name))
    if not folders:
        raise UserError(f"{directory} has no shards (shard-1-of-8, ...); `pcbench run --shard 1/8` makes one")
    infos = {folder: read_info(folder) for folder in folders}
    first = infos[folders[0]]
    count = Shard.parse(first.shard).count
    for folder, info in infos.items():
        if info.identity != first.identity or Shard.parse(info.shard).count != count:
            raise UserError(f"{folder.name} is not of the same run as {folders[0].name}; keep one run's shards here")
        if info.status != "complete":
            raise UserError(f"{folder.name} is not finished ({info.status}, {len(info.cells)} of {info.planned} cells)")
        for key, cell in info.cells.items():
            if not intact(folder, cell):
                raise UserError(f"{folder.name} is damaged: {key}; run that shard again, which computes it anew")
    there = {Shard.parse(info.shard).index for info in infos.values()}
    missing = [str(Shard(index, count)) for index in range(1, count + 1) if index not in there]
    if missing:
        raise UserError(f"shards are missing: {', '.join(missing[:8])}{', ...' if len(missing) > 8 else ''}")
    home = {key: folder for folder, info in infos.items() for key in info.cells}
    lost = [key for key in first.plan if key not in home]
    if lost:
        raise UserError(f"the shards do not make the whole run: {lost[0]} is missing")
    whole = first.model_copy(update={"shard": "", "planned": len(first.plan), "cells": {}, "seconds": {}}, deep=True)
    whole.command = _without_shard(first.command)
    for info in infos.values():
        for stage, seconds in info.seconds.items():
            whole.seconds[stage] = round(whole.seconds.get(stage, 0.0) + seconds, 3)
    with RunStore(directory) as store:
        store.open(whole)
        store.info.seconds = whole.seconds
        for key in first.plan:
            if not store.done(key):
                store.adopt(key, infos[home[key]].cells[key], home[key])
        store.finish(first.plan, "complete")
        return store.info


def _without_shard(command: list[str]) -> list[str]:
    if "--shard" not in command:
        return command
    place = command.index("--shard")
    return command[:place] + command[place + 2 :]
