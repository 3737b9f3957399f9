"""Runs on disk as data frames: `load_results`."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from pcbench.errors import UserError, one_line
from pcbench.results.accuracy import accuracy_of_cells
from pcbench.results.schema import ACCURACY_COLUMNS, RECORD_COLUMNS, RunInfo
from pcbench.results.store import RUN_FILE, read_info

_TEXT = "text"
_KINDS = {  # numpy's kinds of dtypes -> columns of records; the others are text
    "iuf": ("severity",),
    "iu": ("label", "timestep", "prediction", "prediction_cumulative"),
    "f": ("confidence", "nll"),
    "b": ("correct",),
}


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
            frame = self._table(cell.file, cell.sha256)
            if frame is None:
                continue
            problem = _problem_of(frame)
            if problem:
                self.note(f"{self.directory / cell.file} {problem}; it is left out")
                continue
            yield frame

    def extra(self, folder: str) -> pd.DataFrame:
        """Further tables of the cells, of one folder ("representations"); empty when there are none."""
        files = [
            each for cell in self.info.cells.values() for each in cell.extra.items() if each[0].startswith(f"{folder}/")
        ]
        frames = [frame for file, checksum in files if (frame := self._table(file, checksum)) is not None]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def _table(self, file: str, checksum: str) -> pd.DataFrame | None:
        path = self.directory / file
        try:
            if not path.resolve().is_relative_to(self.directory.resolve()):
                self.note(f"{self.directory / RUN_FILE} names {file!r}, which is outside the run; it is left out")
                return None
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != checksum:
                self.note(f"{path} is damaged (its checksum is not the one in {RUN_FILE}); it is left out")
                return None
            return pd.read_parquet(io.BytesIO(content))
        except FileNotFoundError:
            # a run that was published without its records has none of them: one line for all
            self.note(f"{path} is missing" if path.parent.is_dir() else f"{path.parent} is missing, with all its files")
        except Exception as error:  # pyarrow raises nearly anything on a damaged file
            self.note(f"{path} is damaged ({str(error) or type(error).__name__}); it is left out")
        return None

    def beside(self, name: str) -> pd.DataFrame | None:
        """A table that lies beside the records ("cost.csv"); None where there is none, or a damaged one."""
        path = self.directory / name
        try:
            return pd.read_csv(path)
        except FileNotFoundError:
            return None
        except Exception as error:  # pandas too
            self.note(f"{path} is damaged ({str(error) or type(error).__name__})")
            return None

    def note(self, problem: str) -> None:
        """Add to the problems, once."""
        line = one_line(problem)
        if line not in self.problems:
            self.problems.append(line)


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


def _problem_of(frame: pd.DataFrame) -> str:
    """What keeps a table from being records; "" when nothing does."""
    for column in RECORD_COLUMNS:
        if column not in frame:
            return f"has no column {column!r}"
        kinds = next((kinds for kinds, columns in _KINDS.items() if column in columns), _TEXT)
        values = frame[column]
        if values.isna().any() and column != "nll":
            return f"has nothing in places of column {column!r}"
        if kinds == _TEXT:
            if not (
                isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.infer_dtype(values) in ("string", "empty")
            ):
                return f"has no text in column {column!r}"
        elif values.dtype.kind not in kinds:
            return f"has {values.dtype} in column {column!r}"
    return ""


def _together(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    full = [frame for frame in frames if not frame.empty]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=columns)
