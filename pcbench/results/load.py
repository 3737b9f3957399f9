"""Runs on disk as data frames: `load_results`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from pcbench.errors import UserError
from pcbench.results.accuracy import accuracy_of_cells
from pcbench.results.schema import ACCURACY_COLUMNS, RECORD_COLUMNS, RunInfo
from pcbench.results.store import RUN_FILE, read_info


@dataclass(frozen=True)
class Run:
    """One run directory.

    Attributes:
        directory: where it lies.
        info: its run.json.
        problems: one line for each file that could not be read; the rest is there.
    """

    directory: Path
    info: RunInfo
    problems: list[str] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Number of planned cells that are not finished."""
        return max(0, self.info.planned - len(self.info.cells))

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row for each image and timestep of each finished cell: `schema.RECORD_COLUMNS` and what the cells add."""
        frames = list(self._cells())
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=RECORD_COLUMNS)

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """accuracy.csv, computed from the records: `schema.ACCURACY_COLUMNS`. Memory holds a few cells at a time."""
        return accuracy_of_cells(self._cells())

    def _cells(self) -> Iterator[pd.DataFrame]:
        for cell in self.info.cells.values():
            frame = self._table(cell.file)
            if frame is None:
                continue
            lacking = [column for column in RECORD_COLUMNS if column not in frame]
            if lacking:
                self._say(f"{self.directory / cell.file} has no column {lacking[0]!r}; it is left out")
                continue
            yield frame

    def extra(self, folder: str) -> pd.DataFrame:
        """Further tables of the cells, of one folder ("representations"); empty when there are none."""
        files = [name for cell in self.info.cells.values() for name in cell.extra if name.startswith(f"{folder}/")]
        frames = [frame for frame in map(self._table, files) if frame is not None]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def _table(self, file: str) -> pd.DataFrame | None:
        path = self.directory / file
        if not path.resolve().is_relative_to(self.directory.resolve()):
            self._say(f"{self.directory / RUN_FILE} names {file!r}, which is outside the run; it is left out")
            return None
        try:
            return pd.read_parquet(path)
        except FileNotFoundError:
            self._say(f"{path} is missing")
        except Exception as error:  # pyarrow raises nearly anything on a damaged file
            self._say(f"{path} is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})")
        return None

    def _say(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


@dataclass(frozen=True)
class Results:
    """One run or several.

    Attributes:
        runs: those that could be opened, by directory name.
        problems: one line for each run that could not; see also `Run.problems`.
    """

    runs: list[Run]
    problems: list[str] = field(default_factory=list)

    @property
    def info(self) -> RunInfo:
        """run.json, when there is one run. Raises UserError when there are several."""
        if len(self.runs) != 1:
            raise UserError(f"there are {len(self.runs)} runs; look at .runs[i].info")
        return self.runs[0].info

    @cached_property
    def records(self) -> pd.DataFrame:
        """The records of all runs, see `Run.records`."""
        return _together([run.records for run in self.runs], RECORD_COLUMNS)

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """The accuracies of all runs, see `Run.accuracy`."""
        return _together([run.accuracy for run in self.runs], ACCURACY_COLUMNS)


def load_results(directory: str | Path) -> Results:
    """A run directory, or a directory of run directories (at any depth), as data frames.

    A damaged run or file is named in `problems`, and the rest is loaded.

    Raises:
        UserError: there is no such directory, no run in it, or the only run in it cannot be opened.
    """
    root = Path(directory)
    if not root.is_dir():
        raise UserError(f"no directory {root}")
    if (root / RUN_FILE).exists():
        return Results([Run(root, read_info(root))])
    runs, problems = [], []
    for path in sorted(root.rglob(RUN_FILE)):
        try:
            runs.append(Run(path.parent, read_info(path.parent)))
        except UserError as error:
            problems.append(str(error))
    if not runs:
        raise UserError(problems[0] if problems else f"no run in {root}: no {RUN_FILE} at any depth")
    return Results(runs, problems)


def _together(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    full = [frame for frame in frames if not frame.empty]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=columns)
