"""A results directory: a set of cells. Any number of processes may fill it at once; every file is whole or absent."""

import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pcbench.errors import RunError, UserError
from pcbench.keys import CellKey
from pcbench.results.cell import ENDING, Answers, Cell, DamagedCellError, encode, read_cell
from pcbench.results.disk import PART, locked, make_folder, write_atomically
from pcbench.results.requests import RUN_FILE, Request, Requests, read_requests

RECORDS = "records"
_WORK = ".work"  # claims of processes that are at it; gone when the last of them is
_LOCK = ".lock"  # stays: a lock file that is removed while somebody waits for it would be held twice
_PATIENCE = 120.0  # seconds that one process may take to derive tables from cells
_LOGGER = logging.getLogger(__name__)


def cell_files(directory: Path) -> Iterator[Path]:
    """The files of cells in a directory: regular ones, in alphabetical order. Links are passed over."""
    folder = directory / RECORDS
    if folder.is_symlink():
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.name.endswith(ENDING)
                and not entry.name.startswith(".")
                and entry.is_file(follow_symlinks=False)
            )
    except OSError:
        return
    yield from (folder / name for name in names)


def read_cells(directory: Path, problem: Callable[[str], None]) -> list[Cell]:
    """The cells of a directory; `problem` is told of each file that cannot be used, and the rest is there."""
    found = []
    for path in cell_files(directory):
        try:
            found.append(read_cell(path))
        except DamagedCellError as error:
            problem(f"{directory}: {error}")
    return found


class Directory:
    """A results directory, opened for writing. Use as a context manager.

    Args:
        path: of the directory; made by entering, if need be.

    Raises:
        UserError: it is a file or a link, holds something else or links, or results of schema 1.
        RunError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole: dict[Path, tuple[int, int]] = {}  # files of cells that were read to their end: time and size

    def __enter__(self) -> "Directory":
        self.check(self.path)
        make_folder(self.path)
        # resolved once: whatever is linked above it later does not lead elsewhere
        self.path = self.path.resolve()
        make_folder(self.path / RECORDS)
        return self

    def __exit__(self, *exception: object) -> None:
        self._sweep()

    @staticmethod
    def check(path: Path) -> None:
        """Refuse what cannot be a results directory of ours, before anything is written. Raises UserError."""
        if path.is_symlink():
            raise UserError(f"{path} is a link; --output names a real directory")
        if not path.exists():
            return
        if not path.is_dir():
            raise UserError(f"{path} is a file; --output names a directory")
        try:
            entries = list(os.scandir(path))
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        names = {entry.name for entry in entries}
        if names and not names & {RUN_FILE, RECORDS, _LOCK}:
            raise UserError(f"{path} is not empty and holds no results; choose another --output")
        for folder in (path, path / RECORDS):
            link = next((entry.name for entry in _scan(folder) if entry.is_symlink()), None)
            if link is not None:
                raise UserError(f"{folder} has a link inside ({link}); pcbench writes to real files only")
        read_requests(path)  # refuses another schema, and a damaged one

    # --- cells ------------------------------------------------------------------------------------------------

    def cell(self, key: CellKey) -> Cell | None:
        """The finished cell of a key; None when it is missing or damaged."""
        path = self.path / RECORDS / (key.stem + ENDING)
        try:
            if not path.exists():
                return None
            cell = read_cell(path)
            seen = os.lstat(path)
            state = seen.st_mtime_ns, seen.st_size
            if self._whole.get(path) != state:
                wrong = cell.verify()
                if wrong:
                    raise DamagedCellError(wrong)
                self._whole[path] = state
        except (DamagedCellError, OSError) as error:
            _LOGGER.warning("%s; it is computed again", error)
            return None
        return cell

    def add(self, key: CellKey, answers: Answers, provenance: Mapping[str, Any], report: Mapping[str, Any]) -> Path:
        """Keep a finished cell. Raises RunError."""
        path = self.path / RECORDS / (key.stem + ENDING)
        write_atomically(path, encode(key, answers, provenance, report))
        return path

    def adopt(self, cell: Cell, content: bytes) -> None:
        """Keep a cell of another directory: the bytes of its file, under the name that its key has. Raises RunError."""
        write_atomically(self.path / RECORDS / (cell.key.stem + ENDING), content)

    # --- several processes ------------------------------------------------------------------------------------

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the directory, for what is derived from all its cells: run.json, accuracy.csv, figures.

        Raises:
            RunError: another process holds it for minutes.
        """
        with locked(self.path / _LOCK, _PATIENCE) as mine:
            if not mine:
                raise RunError(f"another process has been writing tables in {self.path} for minutes; try again")
            yield

    def claim(self, name: str) -> "Claim":
        """Say that this process computes something, so that others at work in the same directory take other things."""
        make_folder(self.path / _WORK)
        return Claim(self.path / _WORK / f"{name[:40]}.claim")

    def _sweep(self) -> None:
        """Remove what processes leave that were killed, and the folder of claims when nobody is at work."""
        for folder in (self.path, self.path / RECORDS):
            for entry in _scan(folder):
                if entry.name.startswith(PART) and _is_old(entry):
                    Path(entry.path).unlink(missing_ok=True)
        work = self.path / _WORK
        try:
            for entry in _scan(work):
                if entry.name.endswith(".claim"):
                    with locked(Path(entry.path), 0) as mine:
                        if mine:
                            Path(entry.path).unlink(missing_ok=True)
            work.rmdir()
        except OSError:
            return  # there is none, or somebody is at work

    # --- requests ---------------------------------------------------------------------------------------------

    def requests(self) -> Requests:
        """What was asked of it so far. Raises UserError."""
        return read_requests(self.path)

    def record(self, request: Request, change: Callable[[Request], None]) -> None:
        """Bring a request up to date in run.json, whatever other processes write there meanwhile.

        Args:
            request: as it was asked now; where the same request is there already, that one is changed.
            change: is given the request that is kept.
        """
        with self.alone():
            requests = self.requests()
            kept = requests.find(request.digest) or request.model_copy(deep=True)
            change(kept)
            requests.put(kept)
            self.write(RUN_FILE, requests.text().encode())

    def write(self, name: str, content: bytes) -> None:
        """A derived file. Raises RunError."""
        write_atomically(self.path / name, content)


class Claim:
    """A claim on a piece of work; `mine` says whether it was free. Ends with `release`, or with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self.mine = self._stack.enter_context(locked(path, 0))

    def release(self) -> None:
        """Let others have it."""
        if self.mine:
            self._path.unlink(missing_ok=True)
        self._stack.close()


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _is_old(entry: os.DirEntry[str]) -> bool:
    """Whether a temporary file is one that nobody writes any more: it has not changed for an hour."""
    import time

    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and abs(time.time() - found.st_mtime) > 3600
