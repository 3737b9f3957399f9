"""Cells to read numbers from: selected by their keys, read one at a time. `load_results`."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pcbench.errors import UserError, did_you_mean, one_line
from pcbench.intervals import wilson
from pcbench.keys import CellKey, DataKey, ModelKey
from pcbench.results.cell import ATTACK_COLUMNS, THUMBNAIL, Cell, cell_values
from pcbench.results.directory import RECORDS, read_cells
from pcbench.results.requests import RUN_FILE, Request, read_requests

ACCURACY_COLUMNS = [
    "model",
    "weights",
    "data",
    "suite",
    "perturbation",
    "group",
    "severity",
    "timestep",
    "n",
    "correct",
    "accuracy",
    "ci_low",
    "ci_high",
    "seed",
    "dtype",
    "T",
    "has_dynamics",
    *ATTACK_COLUMNS,
    "cell",
]
CELL_DIGITS = 16  # of a cell's digest, in tables: enough to find its file


@dataclass(frozen=True)
class System:
    """What gives one curve: a network with its weights on some images, run in one way.

    Attributes:
        model, data: see `pcbench.keys`.
        timesteps: T.
        seed, dtype, numerics, settings: as in its cells' keys.
    """

    model: ModelKey
    data: DataKey
    timesteps: int
    seed: int
    dtype: str
    numerics: str
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, key: CellKey) -> "System":
        """The system of a cell."""
        settings = tuple(sorted(key.settings.items()))
        return cls(key.model, key.data, key.timesteps, key.seed, key.dtype, key.numerics, settings)


@dataclass(frozen=True)
class Placed:
    """A request, and the directory that it was made of."""

    directory: Path
    request: Request


@dataclass(frozen=True)
class Study:
    """Cells, and what was asked of the directories that they lie in.

    Attributes:
        cells: in the order in which they were asked for.
        requests: see there.
        problems: one line for each file that could not be used; the rest is there.
    """

    cells: tuple[Cell, ...]
    requests: tuple[Placed, ...] = ()
    problems: list[str] = field(default_factory=list)

    @cached_property
    def suites(self) -> Mapping[str, tuple[str, ...]]:
        """Digest of a cell -> the suites that it was asked for in; () for one that was copied without its request."""
        found: dict[str, dict[str, None]] = {}
        for placed in self.requests:
            for suite in placed.request.suites:
                for digest in suite.cells:
                    found.setdefault(digest, {})[suite.name] = None
        return {digest: tuple(names) for digest, names in found.items()}

    def suites_of(self, cell: Cell) -> tuple[str, ...]:
        """The suites of a cell, ("",) where none is known."""
        return self.suites.get(cell.key.digest) or ("",)

    def suite_names(self) -> list[str]:
        """All suites of its cells, in order."""
        return list(dict.fromkeys(name for cell in self.cells for name in self.suites_of(cell)))

    # --- selection --------------------------------------------------------------------------------------------

    def select(self, **wanted: Any) -> "Study":
        """The cells whose keys have these values; each a value or several.

        Args:
            wanted: model (a name, with or without its options, or a ModelKey), weights, data, suite, perturbation,
                group, kind, severity, measure, seed, dtype, T, cell (the beginning of a digest), has_dynamics.

        Raises:
            UserError: nothing of the kind, with what there is.
        """
        left = self.cells
        for name, value in wanted.items():
            if name not in _FIELDS and name not in ("suite", "cell"):
                raise UserError(f"cells have no {name!r}; {did_you_mean(name, [*_FIELDS, 'suite', 'cell'])}")
            if value is None:
                continue
            values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
            kept = tuple(cell for cell in left if any(self._has(cell, name, one) for one in values))
            if not kept:
                there = sorted({str(each) for cell in left for each in self._values(cell, name)})
                raise UserError(
                    f"no cell has {name} {', '.join(map(str, values))!r}; {did_you_mean(str(values[0]), there)}"
                )
            left = kept
        return replace(self, cells=left)

    def _values(self, cell: Cell, name: str) -> tuple[Any, ...]:
        if name == "suite":
            return self.suites_of(cell)
        if name == "cell":
            return (cell.key.digest[:CELL_DIGITS],)
        found: tuple[Any, ...] = _FIELDS[name](cell)
        return found

    def _has(self, cell: Cell, name: str, value: Any) -> bool:
        if name == "cell":
            return cell.key.digest.startswith(str(value))
        return value in self._values(cell, name)

    def one(self, **wanted: Any) -> Cell:
        """The one cell of these values.

        Raises:
            UserError: none, or several, which it names.
        """
        found = self.select(**wanted).cells
        if len(found) > 1:
            raise UserError(f"{len(found)} cells match: {_few([_long(cell) for cell in found])}; say which")
        return found[0]

    def systems(self) -> dict[System, "Study"]:
        """System -> its cells, in order."""
        found: dict[System, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(System.of(cell.key), []).append(cell)
        return {system: replace(self, cells=tuple(cells)) for system, cells in found.items()}

    def system(self, **wanted: Any) -> System:
        """The one system of these values.

        Raises:
            UserError: none, or several, which it names.
        """
        found = list((self.select(**wanted) if wanted else self).systems())
        if len(found) != 1:
            names = labels(found)
            raise UserError(f"{len(found)} match: {_few(list(names.values()))}; say which")
        return found[0]

    # --- tables -----------------------------------------------------------------------------------------------

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """Accuracy of each cell at each timestep with its 95 % Wilson interval: `ACCURACY_COLUMNS`.

        A network without dynamics has the same answer at every timestep to which others on the same images under the
        same condition go; `has_dynamics` says so. A cell that several suites have stands in each. Fractions in [0, 1].
        Intervals are marginal: overlap of two of them says nothing about a difference on the same images, see
        `pcbench compare`.
        """
        longest = self._longest()
        parts: list[dict[str, Any]] = []
        for cell in self.cells:
            counts = self._try(cell, Cell.counts)
            if counts is None:
                continue
            counts = _repeated(counts, longest[_place(cell.key)] if not cell.has_dynamics else cell.key.timesteps)
            values = cell_values(cell.key)
            for suite in self.suites_of(cell):
                for t, count in enumerate(counts):
                    parts.append(
                        {
                            **values,
                            "suite": suite,
                            "timestep": t,
                            "n": cell.key.data.n,
                            "correct": int(count),
                            "has_dynamics": cell.has_dynamics,
                            "cell": cell.key.digest[:CELL_DIGITS],
                        }
                    )
        table = pd.DataFrame(parts, columns=[c for c in ACCURACY_COLUMNS if c not in ("accuracy", "ci_low", "ci_high")])
        if table.empty:
            return pd.DataFrame(columns=[c for c in ACCURACY_COLUMNS if c not in ATTACK_COLUMNS])
        table["accuracy"] = table["correct"] / table["n"]
        table["ci_low"], table["ci_high"] = wilson(table["correct"].to_numpy(), table["n"].to_numpy())
        shown = [c for c in ACCURACY_COLUMNS if c not in ATTACK_COLUMNS or table[c].notna().any()]
        ordered = table[shown]
        suites = {name: index for index, name in enumerate(self.suite_names())}
        return ordered.sort_values("suite", key=lambda names: names.map(suites), kind="stable", ignore_index=True)

    @property
    def records(self) -> pd.DataFrame:
        """One row for each image and timestep of each cell: the cell's values, image, label, timestep, prediction, ...

        All of them at once, in memory: for large results select first, or go through `cells` one by one. A network
        without dynamics has a row at every timestep, as in `accuracy`.
        """
        longest = self._longest()
        frames = []
        for cell in self.cells:
            frame = self._try(cell, Cell.records)
            if frame is None:
                continue
            if "image" not in frame:
                self.note(f"{cell.path.name} was published with its answers alone: it has no records of single images")
                continue
            last = longest[_place(cell.key)]
            if not cell.has_dynamics and last > cell.key.timesteps:
                steps = np.tile(np.arange(last + 1, dtype=np.int16), len(frame))
                frame = frame.loc[frame.index.repeat(last + 1)].reset_index(drop=True).assign(timestep=steps)
            frame = frame.assign(has_dynamics=cell.has_dynamics, cell=cell.key.digest[:CELL_DIGITS])
            frames.append(frame)
        if not frames:
            return pd.DataFrame(
                columns=["model", "weights", "data", "image", "label", "timestep", "prediction", "correct"]
            )
        return pd.concat([_plain(frame) for frame in frames], ignore_index=True)

    def thumbnails(self) -> Iterator[tuple[Cell, pd.DataFrame]]:
        """The cells that kept a few images as the model saw them, with image, label and thumbnail (a WebP file)."""
        for cell in self.cells:
            if THUMBNAIL not in cell.columns:
                continue
            frame = self._try(cell, lambda one: one.table(["image", "label", THUMBNAIL]).to_pandas())
            if frame is not None:
                yield cell, frame[frame[THUMBNAIL].notna()]

    def _longest(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for cell in self.cells:
            place = _place(cell.key)
            found[place] = max(found.get(place, 0), cell.key.timesteps)
        return found

    def _try(self, cell: Cell, read: Any) -> Any:
        try:
            return read(cell)
        except UserError as error:
            self.note(str(error))
            return None

    def note(self, problem: str) -> None:
        """Add to the problems, once."""
        line = one_line(problem)
        if line not in self.problems:
            self.problems.append(line)

    @property
    def missing(self) -> int:
        """How many cells were asked for that are not there."""
        there = {cell.key.digest for cell in self.cells}
        return sum(digest not in there for digest in {d for placed in self.requests for d in placed.request.cells})

    def status_of(self, placed: Placed) -> str:
        """How far a request is: "complete" when its cells are there, whatever was written when it was left."""
        there = {cell.key.digest for cell in self.cells}
        if all(digest in there for digest in placed.request.cells):
            return "complete"
        return "unfinished" if placed.request.status in ("complete", "running") else placed.request.status


def load_results(*directories: str | Path, **wanted: Any) -> Study:
    """The cells below some directories, at any depth, as a study.

    A damaged file is named in `problems`, and the rest is loaded. A cell that lies in several places counts once.

    Args:
        directories: of results.
        wanted: a selection, as of `Study.select`.

    Raises:
        UserError: no such directory, no results in it, or results of schema 1.
    """
    cells: dict[str, Cell] = {}
    requests: list[Placed] = []
    problems: list[str] = []
    clashing: set[str] = set()
    for directory in dict.fromkeys(found for each in directories for found in results_below(Path(each))):
        try:
            requests += [Placed(directory, request) for request in read_requests(directory).requests]
        except UserError as error:
            problems.append(one_line(str(error)))
        for cell in read_cells(directory, lambda line: problems.append(one_line(line))):
            other = cells.setdefault(cell.key.digest, cell)
            if other is cell:
                continue
            if cell.content == other.content or cell.provenance.get("reduced_from") == other.content:
                continue
            if other.provenance.get("reduced_from") == cell.content:
                cells[cell.key.digest] = cell  # the whole records rather than the answers alone
                continue
            clashing.add(cell.key.digest)
            problems.append(
                one_line(f"{cell.path} and {other.path} are the same cell with other records; neither is used")
            )
    for digest in clashing:
        del cells[digest]
    if not cells and not requests:
        where = ", ".join(str(each) for each in directories)
        raise UserError(problems[0] if problems else f"no results in {where}: no {RECORDS}/ at any depth")
    order = {digest: index for index, digest in enumerate(d for placed in requests for d in placed.request.cells)}
    last = len(order)
    ordered = sorted(cells.values(), key=lambda cell: order.get(cell.key.digest, last))
    study = Study(tuple(ordered), tuple(requests), problems)
    return study.select(**wanted) if wanted else study


def results_below(root: Path) -> Iterator[Path]:
    """Directories with cells or requests, at any depth; links are not followed."""
    if not root.is_dir():
        raise UserError(
            f"no directory {root}" if not root.exists() else f"{root} is a file; name a directory of results"
        )
    for folder, below, files in os.walk(root, followlinks=False):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if RECORDS in below or RUN_FILE in files:
            below[:] = [name for name in below if name != RECORDS]
            yield Path(folder)


def labels(systems: Iterable[System]) -> dict[System, str]:
    """What people call systems: the model's label, and in brackets what else tells it from others of that label."""
    by_model: dict[str, list[System]] = {}
    for system in systems:
        by_model.setdefault(system.model.label, []).append(system)
    found = {}
    for label, several in by_model.items():
        marks = {name: {read(system) for system in several} for name, read in _MARKS.items()}
        for system in several:
            # in this order as few as needed
            chosen: list[str] = []
            rivals = [other for other in several if other != system]
            for name, read in _MARKS.items():
                left = [other for other in rivals if read(other) == read(system)]
                if len(left) < len(rivals) and len(marks[name]) > 1:
                    chosen.append(read(system))
                    rivals = left
            found[system] = f"{label} [{', '.join(chosen)}]" if chosen else label
    return found


_MARKS: dict[str, Any] = {
    "weights": lambda system: system.model.weights,
    "data": lambda system: system.data.name,
    "n": lambda system: f"{system.data.n} images",
    "T": lambda system: f"T = {system.timesteps}",
    "dtype": lambda system: system.dtype,
    "seed": lambda system: f"seed {system.seed}",
    "settings": lambda system: ", ".join(f"{name}={value}" for name, value in system.settings) or "as usual",
    "numerics": lambda system: f"numerics {system.numerics}",
    "images": lambda system: f"images {system.data.fingerprint[:6]}",
    "checksum": lambda system: f"parameters {system.model.checksum[:6]}",
    "source": lambda system: f"source {system.model.source[:6]}",
    "model": lambda system: f"key {system.model.digest[:6]}",
}

_FIELDS: dict[str, Any] = {
    "model": lambda cell: (cell.key.model.label, cell.key.model.name, cell.key.model),
    "weights": lambda cell: (cell.key.model.weights,),
    "data": lambda cell: (cell.key.data.name, cell.key.data),
    "perturbation": lambda cell: (cell.key.condition.perturbation,),
    "group": lambda cell: (cell.key.condition.group,),
    "kind": lambda cell: (cell.key.condition.kind,),
    "condition": lambda cell: (cell.key.condition,),
    "severity": lambda cell: (cell.key.condition.severity,),
    "measure": lambda cell: (cell.key.measure,),
    "seed": lambda cell: (cell.key.seed,),
    "dtype": lambda cell: (cell.key.dtype,),
    "T": lambda cell: (cell.key.timesteps,),
    "has_dynamics": lambda cell: (cell.has_dynamics,),
}


def _place(key: CellKey) -> tuple[str, str]:
    return key.data.fingerprint, key.condition.digest


def _repeated(counts: Any, last: int) -> Any:
    return (
        np.concatenate([counts, np.repeat(counts[-1:], last + 1 - len(counts))]) if last + 1 > len(counts) else counts
    )


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Categories as text: frames of several cells have different ones."""
    return frame.astype({name: object for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)})


def _long(cell: Cell) -> str:
    key = cell.key
    return f"{key.model.label} [{key.model.weights}] on {key.data.name}, {key.condition.label}, cell {key.digest[:8]}"


def _few(names: Sequence[str], most: int = 6) -> str:
    more = f"; and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more
