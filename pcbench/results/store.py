"""A run directory while it is being written: one process at a time, every file whole or absent."""

import contextlib
import hashlib
import io
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout
from pydantic import ValidationError

from pcbench.errors import RunError, UserError
from pcbench.results.accuracy import accuracy_of_cells
from pcbench.results.provenance import now
from pcbench.results.schema import CELL_COLUMNS, SCHEMA_VERSION, CellInfo, RunInfo, Status

RUN_FILE = "run.json"
ACCURACY_FILE = "accuracy.csv"
RECORDS = "records"
_LOCK = ".lock"
_MAX_STEM = 100
_LOGGER = logging.getLogger(__name__)
SHARD = re.compile(r"shard-\d+-of-\d+")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is, at any moment and after a crash, either the old one or the new one, whole.

    Raises:
        RunError: the disk is full, or the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error says it all
            temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path.name}: {error.strerror}; what was finished is kept") from None


def cell_file(key: str) -> str:
    """The file name of a cell: readable, and unique through a digest of the key.

    >>> cell_file("timm:resnet18 imagenet-c fog 3")
    'records/timm-resnet18-imagenet-c-fog-3-6a03.parquet'
    """
    stem = re.sub(r"[^A-Za-z0-9.@_+-]+", "-", key)[:_MAX_STEM]
    return f"{RECORDS}/{stem}-{hashlib.sha256(key.encode()).hexdigest()[:4]}.parquet"


def parquet(frame: pd.DataFrame) -> bytes:
    """A frame as parquet. Equal frames give equal bytes.

    Of floats like confidences only the high bytes repeat, so they are compressed byte by byte; this takes three tenths
    off a file of records.
    """
    buffer = io.BytesIO()
    split = [name for name in frame.columns if frame[name].dtype == "float32"]
    others = [name for name in frame.columns if name not in split]
    frame.to_parquet(
        buffer, index=False, engine="pyarrow", compression="zstd", use_dictionary=others, use_byte_stream_split=split
    )
    return buffer.getvalue()


def read_info(directory: Path) -> RunInfo:
    """run.json of a directory.

    Raises:
        UserError: it is missing, damaged, or of a schema that this version does not read.
    """
    path = directory / RUN_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{directory} is no run: it has no {RUN_FILE}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    found = re.search(r'"schema_version":\s*(\d{1,9})', text)
    if found and int(found[1]) > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {found[1]}, this pcbench reads up to {SCHEMA_VERSION}: upgrade pcbench"
        )
    try:
        return RunInfo.model_validate_json(text)
    except (ValidationError, RecursionError) as error:
        problem = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deeply"}
        place = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{path} is damaged: {f'{place}: ' if place else ''}{problem['msg']}") from None


def intact(directory: Path, cell: CellInfo) -> bool:
    """Whether a cell's files are there, inside the directory, and have their checksums."""
    root = directory.resolve()
    try:
        return all(
            (root / file).resolve().is_relative_to(root)
            and hashlib.sha256((root / file).read_bytes()).hexdigest() == checksum
            for file, checksum in {cell.file: cell.sha256, **cell.extra}.items()
        )
    except (OSError, ValueError):
        return False


class RunStore:
    """A run directory, opened for writing. Use as a context manager: the lock goes with it, or with the process.

    Args:
        directory: of the run; made by `open`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = FileLock(directory / _LOCK, blocking=False)
        self.info: RunInfo

    def open(self, info: RunInfo) -> None:
        """Start the run, or go on with it.

        Raises:
            UserError: the directory holds something else, another run, or a run that another process is writing.
            RunError: it cannot be written.
        """
        self._check(info)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise UserError(
                f"{self.directory} is being written by another process; wait, or choose another --output"
            ) from None
        except OSError as error:
            raise RunError(f"cannot write to {self.directory}: {error.strerror}") from None
        try:
            self._check(info)  # again: another process may have finished in between
        except UserError:
            self.close()
            raise
        before = read_info(self.directory) if (self.directory / RUN_FILE).exists() else None
        self.info = info.model_copy(deep=True)
        if before is not None:
            self.info.created = before.created
            for stage, seconds in before.seconds.items():
                self.add_seconds(stage, seconds)
            self.info.cells = {key: cell for key, cell in before.cells.items() if intact(self.directory, cell)}
            for key in before.cells.keys() - self.info.cells.keys():
                _LOGGER.warning("the records of %s are missing or damaged; they are computed again", key)
        self.save("running")

    def _check(self, info: RunInfo) -> None:
        path = self.directory
        if path.is_file():
            raise UserError(f"{path} is a file; --output names a directory")
        if not path.exists():
            return
        if not (path / RUN_FILE).exists():
            own = (_LOCK, f".{RUN_FILE}.part")
            if any(entry.name not in own and not SHARD.fullmatch(entry.name) for entry in path.iterdir()):
                raise UserError(f"{path} is not empty and holds no run; choose another --output")
            return
        there = read_info(path)
        if (there.identity, there.shard) != (info.identity, info.shard):
            raise UserError(f"{path} holds another run ({_difference(there, info)}); choose another --output")

    def done(self, key: str) -> bool:
        """Whether a cell is finished, and its files were whole when the run was opened."""
        return key in self.info.cells

    def add(
        self,
        key: str,
        records: pd.DataFrame,
        seconds: Mapping[str, float],
        report: Mapping[str, object],
        extra: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        """Keep a finished cell. `extra`: further tables, by the folder that they belong in."""
        file = cell_file(key)
        others: dict[str, str] = {}
        for folder, frame in (extra or {}).items():
            content = parquet(frame)
            name = f"{folder}/{Path(file).name}"
            write_atomically(self.directory / name, content)
            others[name] = hashlib.sha256(content).hexdigest()
        content = parquet(records)
        write_atomically(self.directory / file, content)
        self.info.cells[key] = CellInfo(
            file=file,
            sha256=hashlib.sha256(content).hexdigest(),
            rows=len(records),
            seconds={stage: round(value, 4) for stage, value in seconds.items()},
            extra=others,
            report=dict(report),
        )
        self.save("running")

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add to the time that a stage of the whole run took."""
        self.info.seconds[stage] = round(self.info.seconds.get(stage, 0.0) + seconds, 3)

    def adopt(self, key: str, cell: CellInfo, directory: Path) -> None:
        """Keep a cell that another directory of the same run has finished, by copying its files."""
        for file in (cell.file, *cell.extra):
            write_atomically(self.directory / file, (directory / file).read_bytes())
        self.info.cells[key] = cell
        self.save("running")

    def save(self, status: Status) -> None:
        """Write run.json with a status."""
        self.info.status = status
        self.info.finished = now() if status == "complete" else None
        write_atomically(self.directory / RUN_FILE, (self.info.model_dump_json(indent=1) + "\n").encode())

    def records(self, keys: list[str]) -> pd.DataFrame:
        """The records of finished cells, in the order of the keys."""
        frames = [pd.read_parquet(self.directory / self.info.cells[key].file) for key in keys if key in self.info.cells]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*CELL_COLUMNS, "correct"])

    def finish(self, keys: list[str], status: Status) -> pd.DataFrame:
        """Write accuracy.csv of what is finished, in the order of the keys, and the status. Returns the table.

        A bounded number of rows at a time, so that memory does not grow with the number of cells.
        """
        columns = [*CELL_COLUMNS, "timestep", "correct"]
        files = [self.directory / self.info.cells[key].file for key in keys if self.done(key)]
        table = accuracy_of_cells(pd.read_parquet(file, columns=columns) for file in files)
        write_atomically(self.directory / ACCURACY_FILE, table.to_csv(index=False, float_format="%.9g").encode())
        self.info.cells = {key: self.info.cells[key] for key in keys if key in self.info.cells}
        self.save(status)
        return table

    def close(self) -> None:
        """Let other processes write."""
        self._lock.release()
        if not (self.directory / RUN_FILE).exists():
            (self.directory / _LOCK).unlink(missing_ok=True)

    def __enter__(self) -> "RunStore":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _difference(there: RunInfo, here: RunInfo) -> str:
    """What sets two runs apart, for the message that refuses to mix them."""
    if there.shard != here.shard:
        return f"{there.shard or 'all'} of the run is there, {here.shard or 'all'} of it here"
    if there.data.fingerprint != here.data.fingerprint:
        old, new = (f"{info.data.name} with fingerprint {info.data.fingerprint[:12]}" for info in (there, here))
        return f"data is {old} there, {new} here"
    for name in sorted({*there.arguments, *here.arguments}):
        if there.arguments.get(name) != here.arguments.get(name):
            return f"{name} is {there.arguments.get(name)} there, {here.arguments.get(name)} here"
    for old_suite, new_suite in zip(there.suites, here.suites, strict=False):
        if old_suite != new_suite:
            return f"suite {new_suite.name} has changed: version {old_suite.version} there, {new_suite.version} here"
    for old_model, new_model in zip(there.models, here.models, strict=False):
        for field in ("name", "weights", "timesteps", "provenance"):
            if getattr(old_model, field) != getattr(new_model, field):
                return f"{new_model.name} has another {field} there"
    return "its plan differs"
