"""One finished cell as one file: its records, its key, and where it came from. Complete by itself.

The file is parquet, for pandas and DuckDB; key and provenance are JSON in its metadata. A file may come from a
stranger: its key must be that of its name, its rows as many as the key says, and nothing else in it is believed.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pcbench.errors import UserError
from pcbench.keys import BadKeyError, CellKey, Condition, read_key
from pcbench.results.disk import open_regular

SCHEMA = 2
ENDING = ".parquet"
_META, _SEAL = b"pcbench", b"pcbench-seal"
IMAGE, THUMBNAIL = "image", "thumbnail"

# Columns that every file has. Others are optional: a file that was reduced to its answers has `correct` alone.
REQUIRED = ("correct",)
KINDS = {
    "image": "text",
    "label": "iu",
    "timestep": "iu",
    "prediction": "iu",
    "confidence": "f",
    "correct": "b",
    "nll": "f",
    "prediction_cumulative": "iu",
}
_MOST_COLUMNS = 96
_MOST_META = 1_000_000  # characters of key and provenance
_ROW_BYTES, _SPARE_BYTES = 512, 8_000_000  # of decompressed columns, as a file may claim them
_LARGEST_FILE = 4_000_000_000
_NAME_BYTES = 1_024  # of an image's id
_THRIFT_STRINGS, _THRIFT_CONTAINERS = 4_000_000, 200_000


class DamagedCellError(UserError):
    """A file of records that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Answers:
    """What a model said about n images at T + 1 timesteps, on its way to a file.

    Attributes:
        images: n ids.
        labels: (n,) class indices.
        per_step: name -> (T + 1, n): "prediction", "confidence", "nll", "prediction_cumulative", and what a measure
            adds ("distance_1" of the first PCoder's representation).
        per_image: name -> (n,): what the perturbation says of each image ("attacked", "distance", "success").
        thumbnails: row -> a small WebP file: some images as the model saw them.
    """

    images: Sequence[str]
    labels: npt.NDArray[np.integer[Any]]
    per_step: Mapping[str, npt.NDArray[Any]]
    per_image: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)

    def table(self) -> pa.Table:
        """The records: images in the order of their ids, and for each the timesteps in order."""
        steps = len(self.per_step["prediction"])
        order = np.argsort(np.asarray(self.images, dtype=object), kind="stable")
        ids = pa.array([self.images[row] for row in order], type=pa.string()).dictionary_encode()
        rows = np.repeat(np.arange(len(order), dtype=np.int32), steps)
        labels = np.asarray(self.labels, dtype=np.int32)[order]
        columns: dict[str, Any] = {
            "image": ids.take(pa.array(rows)) if len(order) else ids,
            "label": np.repeat(labels, steps),
            "timestep": np.tile(np.arange(steps, dtype=np.int16), len(order)),
        }
        per_step = {name: np.asarray(value)[:, order] for name, value in self.per_step.items()}
        columns["prediction"] = per_step.pop("prediction").T.reshape(-1)
        columns["correct"] = columns["prediction"] == columns["label"]
        columns |= {name: value.T.reshape(-1) for name, value in per_step.items()}
        columns |= {name: np.repeat(np.asarray(value)[order], steps) for name, value in self.per_image.items()}
        if self.thumbnails:
            small: list[bytes | None] = [None] * (len(order) * steps)
            place = {int(row): index for index, row in enumerate(order)}
            for row, content in self.thumbnails.items():
                small[place[row] * steps] = content
            columns[THUMBNAIL] = pa.array(small, type=pa.binary())
        return pa.table(columns)


@dataclass(frozen=True)
class Cell:
    """A finished cell on disk.

    Attributes:
        key: what it is.
        path: of its file.
        content: SHA-256 of its records, which is the same whoever computed them.
        order: SHA-256 of the ids of its images, in order: cells of one value can be set side by side image by image.
        provenance: where it came from: packages, git, device, seconds, command, model ... (JSON).
        report: what its perturbation said of it besides its records (JSON).
        columns: of its records.
    """

    key: CellKey
    path: Path
    content: str
    order: str
    provenance: Mapping[str, Any]
    report: Mapping[str, Any]
    columns: tuple[str, ...]

    @property
    def has_dynamics(self) -> bool:
        """Whether the network's answer can change with t."""
        model = self.provenance.get("model")
        return bool(model.get("has_dynamics", self.key.timesteps > 0)) if isinstance(model, Mapping) else False

    @property
    def seconds(self) -> Mapping[str, float]:
        """By stage: "data" (waiting for images), "perturbation", "model"; shared work is shared out."""
        found = self.provenance.get("seconds")
        if not isinstance(found, Mapping):
            return {}
        return {str(stage): float(value) for stage, value in found.items() if isinstance(value, int | float)}

    @cached_property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(T + 1, n): whether each image's answer is right, images in the order of their ids. Not kept in memory."""
        packed = self._packed
        shape = self.key.data.n, self.key.timesteps + 1
        return np.unpackbits(packed, count=shape[0] * shape[1]).astype(bool).reshape(shape).T

    @cached_property
    def _packed(self) -> npt.NDArray[np.uint8]:
        return np.packbits(self.column("correct").astype(bool))

    def counts(self) -> npt.NDArray[np.int64]:
        """(T + 1,): how many answers are right."""
        shape = self.key.data.n, self.key.timesteps + 1
        found = np.unpackbits(self._packed, count=shape[0] * shape[1]).reshape(shape)
        return np.asarray(found.sum(axis=0, dtype=np.int64))

    def column(self, name: str) -> npt.NDArray[Any]:
        """One column of the records, (n (T + 1),), images in order and for each the timesteps.

        Raises:
            DamagedCellError: the file cannot be read, or has no such column.
        """
        if name not in self.columns:
            raise DamagedCellError(f"{self.path.name} has no column {name!r}; it has {', '.join(self.columns)}")
        return np.asarray(self.table([name]).column(name).to_numpy())

    def matrix(self, name: str) -> npt.NDArray[Any]:
        """One column of the records as (T + 1, n)."""
        return self.column(name).reshape(self.key.data.n, self.key.timesteps + 1).T

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns of the records, all by default. Raises DamagedCellError."""
        try:
            with open_regular(self.path, most_bytes(self.key)) as file:
                table = _checked(file, self.path, self.key).read(columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DamagedCellError(f"{self.path.name} is damaged: {_reason(error)}") from None

        for name in (IMAGE, THUMBNAIL):
            if name not in table.column_names:
                continue
            size = sum(chunk.dictionary.nbytes for chunk in table.column(name).chunks)
            if size > _NAME_BYTES * self.key.data.n + _SPARE_BYTES:
                raise DamagedCellError(f"{self.path.name} has {size} bytes of {name}s, more than cells have")
        return table

    def records(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The records, and the cell's own columns before them (see `cell_values`)."""
        wanted = None if columns is None else [name for name in columns if name in self.columns]
        names = wanted if wanted is not None else [name for name in self.columns if name != THUMBNAIL]
        frame = self.table(names).to_pandas()
        values = {k: v for k, v in cell_values(self.key).items() if (columns is None or k in columns)}
        constant = {
            k: pd.Categorical([v]).take(np.zeros(len(frame), dtype=np.intp)) if isinstance(v, str) else v
            for k, v in values.items()
        }
        return pd.DataFrame({**constant, **{name: frame[name] for name in frame if name not in constant}})

    def verify(self) -> str:
        """What is wrong with the records; "" when they are those that the file was sealed with, and make sense."""
        try:
            table = self.table()
        except DamagedCellError as error:
            return str(error)
        if content_digest(table) != self.content:
            return f"{self.path.name}: the records are not those that were sealed"
        wrong = _senseless(table, self.key, self.order)
        return f"{self.path.name}: {wrong}" if wrong else ""


def _senseless(table: pa.Table, key: CellKey, order: str) -> str:
    """What in records contradicts their key or themselves, however well they are sealed; "" for nothing."""
    own = cell_values(key)
    for name in sorted(_OWN.intersection(table.column_names)):
        if name not in own or table.column(name).unique().to_pylist() != [own[name]]:
            return f"column {name!r} is not what the key says"
    there = {
        name: table.column(name).to_numpy()
        for name in ("label", "prediction", "correct", "timestep")
        if name in table.column_names
    }
    if len(there) == 4:
        if (there["correct"] != (there["prediction"] == there["label"])).any():
            return "column 'correct' is not where predictions are the labels"
        if (there["timestep"] != np.tile(np.arange(key.timesteps + 1), key.data.n)).any():
            return "column 'timestep' does not count from 0 to T for each image"
    if IMAGE in table.column_names:
        ids = table.column(IMAGE).to_pylist()
        once = ids[:: key.timesteps + 1]
        if ids != [name for name in once for _ in range(key.timesteps + 1)] or _order(once) != order:
            return "column 'image' does not name the images, in their order"
    return ""


def _order(ids: Sequence[str]) -> str:
    return hashlib.sha256("\x1f".join(ids).encode()).hexdigest()


def cell_values(key: CellKey) -> dict[str, Any]:
    """What tells the rows of one cell from those of another, as columns.

    The parameters of attacks, and of what they are held against, have columns of their own: `ATTACK_COLUMNS`.
    """
    return {
        "model": key.model.label,
        "weights": key.model.weights,
        "data": key.data.name,
        "seed": key.seed,
        "dtype": key.dtype,
        "T": key.timesteps,
        **condition_values(key.condition),
    }


def condition_values(condition: Condition) -> dict[str, Any]:
    """The columns of `cell_values` that a condition decides."""
    values: dict[str, Any] = {
        "perturbation": condition.perturbation,
        "group": condition.group,
        "severity": float(condition.severity),
    }
    for name in ATTACK_COLUMNS:
        if name in condition.params:
            value = condition.params[name]
            values[name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return values


ATTACK_COLUMNS = (
    "attack",
    "norm",
    "loss",
    "readout",
    "at",
    "objective",
    "gradient",
    "source",
    "knowledge",
    "role",
    "judged",
    "options",
    "noise",
)


def encode(key: CellKey, answers: Answers, provenance: Mapping[str, Any], report: Mapping[str, Any]) -> bytes:
    """A finished cell as the bytes of its file."""
    return _encode(key, answers.table(), provenance, report)


def reduced(cell: Cell) -> bytes:
    """The file of a cell with `correct` alone: what every accuracy and paired test is computed from, for publishing.

    The provenance names the content that it was reduced from.
    """
    table = cell.table(["correct"])
    provenance = {**cell.provenance, "reduced_from": cell.content}
    return _encode(cell.key, table, provenance, cell.report, order=cell.order)


def _encode(
    key: CellKey, table: pa.Table, provenance: Mapping[str, Any], report: Mapping[str, Any], order: str | None = None
) -> bytes:
    if table.num_rows != key.data.n * (key.timesteps + 1):
        raise ValueError(f"{table.num_rows} rows for {key.data.n} images and T = {key.timesteps}")
    if order is None:
        ids = table.column("image").to_pylist()[:: key.timesteps + 1]
        order = _order(ids)
    meta = json.dumps(
        {
            "schema": SCHEMA,
            "key": json.loads(key.text),
            "content": content_digest(table),
            "order": order,
            "provenance": provenance,
            "report": report,
        },
        sort_keys=True,
        default=str,
    )
    for name, value in cell_values(key).items():
        if name not in table.column_names:
            table = table.append_column(name, _constant(value, table.num_rows))
    seal = hashlib.sha256(meta.encode()).hexdigest()
    floats = [each.name for each in table.schema if pa.types.is_floating(each.type) and each.name not in _CONSTANT]
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        table.schema.remove_metadata(),
        compression="zstd",
        use_dictionary=[name for name in table.column_names if name not in floats],
        use_byte_stream_split=floats,  # of floats like confidences only the high bytes repeat
        write_page_checksum=True,
        write_statistics=False,
        store_schema=False,  # it would hold key and provenance once more
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_META: meta.encode(), _SEAL: seal.encode()})
    return buffer.getvalue()


_CONSTANT = ("severity",)


def _constant(value: object, rows: int) -> pa.Array:
    """A column of one value, which costs next to nothing."""
    one = pa.array([value])
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int8)), one)


def content_digest(table: pa.Table) -> str:
    """SHA-256 over the records, whatever the order of the columns and the form on disk.

    The cell's own columns (`cell_values`), which the key holds, and thumbnails do not enter.
    """
    digest = hashlib.sha256()
    for name in sorted(table.column_names):
        if name in _OWN or name == THUMBNAIL:
            continue
        column = table.column(name)
        digest.update(f"{name}\x1f".encode())
        if name == "image":
            digest.update("\x1f".join(column.to_pylist()).encode())
            continue
        values = column.to_numpy()
        if values.dtype.kind in "iu":
            values = values.astype("<i8")
        elif values.dtype.kind == "f":
            values = values.astype("<f8")
        elif values.dtype.kind != "b":
            digest.update("\x1f".join(map(str, values)).encode())
            continue
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


_OWN = frozenset(
    {"model", "weights", "data", "perturbation", "group", "severity", "seed", "dtype", "T", *ATTACK_COLUMNS}
)


def most_bytes(key: CellKey) -> int:
    """More bytes than the file of a cell has."""
    return key.data.n * (key.timesteps + 1) * _ROW_BYTES + _SPARE_BYTES


def read_cell(path: Path) -> Cell:
    """A cell's key and provenance, from its file; the records are read when they are asked for.

    Raises:
        DamagedCellError: it is no such file, is of another schema, or its key is not the one that its name has.
    """
    try:
        with open_regular(path, _LARGEST_FILE) as file:
            parquet = pq.ParquetFile(
                file, thrift_string_size_limit=_THRIFT_STRINGS, thrift_container_size_limit=_THRIFT_CONTAINERS
            )
            metadata = parquet.metadata.metadata or {}
            key, meta = _meta(metadata, path)
            _check_shape(parquet, path, key)
            columns = tuple(parquet.schema_arrow.names)
    except DamagedCellError:
        raise
    except Exception as error:  # pyarrow raises nearly anything on a damaged file
        raise DamagedCellError(f"{path.name} is damaged: {_reason(error)}") from None
    return Cell(
        key,
        path,
        str(meta["content"]),
        str(meta["order"]),
        _mapping(meta["provenance"]),
        _mapping(meta["report"]),
        tuple(name for name in columns if name not in _OWN),
    )


def _meta(metadata: Mapping[bytes, bytes], path: Path) -> tuple[CellKey, dict[str, Any]]:
    text = metadata.get(_META)
    if text is None:
        old = b"pandas" in metadata
        raise DamagedCellError(
            f"{path.name} is a file of records of schema 1, which this pcbench does not read: run it again"
            if old
            else f"{path.name} is no cell of pcbench"
        )
    if len(text) > _MOST_META:
        raise DamagedCellError(f"{path.name} is damaged: its metadata are larger than any cell's")
    meta = json.loads(text)
    if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
        there = meta.get("schema") if isinstance(meta, dict) else None
        raise DamagedCellError(f"{path.name} has schema {there!r}; this pcbench reads schema {SCHEMA}")
    if metadata.get(_SEAL) != hashlib.sha256(text).hexdigest().encode():
        raise DamagedCellError(
            f"{path.name} is damaged: its metadata do not have the checksum that they were sealed with"
        )
    try:
        key = read_key(CellKey, meta.get("key"))
    except BadKeyError as error:
        raise DamagedCellError(f"{path.name} has no valid key: {error}") from None
    if path.name != key.stem + ENDING:
        raise DamagedCellError(f"{path.name} holds another cell than its name says: {key.stem}")
    for name in ("content", "order", "provenance", "report"):
        if name not in meta:
            raise DamagedCellError(f"{path.name} is damaged: it has no {name}")
    return key, meta


def _checked(file: Any, path: Path, key: CellKey) -> pq.ParquetFile:
    limits = {"thrift_string_size_limit": _THRIFT_STRINGS, "thrift_container_size_limit": _THRIFT_CONTAINERS}
    parquet = pq.ParquetFile(file, page_checksum_verification=True, **limits)
    # n names for n (T + 1) rows, and one long name that claims to be in all of them stays one
    once = [name for name in (IMAGE, THUMBNAIL) if name in parquet.schema_arrow.names]
    if once:
        parquet = pq.ParquetFile(file, page_checksum_verification=True, read_dictionary=once, **limits)
    found, _ = _meta(parquet.metadata.metadata or {}, path)  # it may have been replaced in between
    if found != key:
        raise DamagedCellError(f"{path.name} holds another cell than before")
    _check_shape(parquet, path, key)
    return parquet


def _check_shape(parquet: pq.ParquetFile, path: Path, key: CellKey) -> None:
    """Refuse a file whose rows, columns or sizes are not those of its key, before anything is decompressed."""
    meta = parquet.metadata
    rows = key.data.n * (key.timesteps + 1)
    if meta.num_rows != rows:
        raise DamagedCellError(f"{path.name} has {meta.num_rows} rows; its key says {rows}")
    if meta.num_columns > _MOST_COLUMNS:
        raise DamagedCellError(f"{path.name} has {meta.num_columns} columns, more than any cell")
    claimed = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
    if claimed > rows * _ROW_BYTES + _SPARE_BYTES or claimed < 0:
        raise DamagedCellError(f"{path.name} claims {claimed} bytes for {rows} rows, more than records take")
    schema = parquet.schema_arrow
    for name in REQUIRED:
        if name not in schema.names:
            raise DamagedCellError(f"{path.name} has no column {name!r}")
    for each in schema:
        kinds = KINDS.get(each.name)
        if kinds is not None and not _is(each.type, kinds):
            raise DamagedCellError(f"{path.name} has {each.type} in column {each.name!r}")
        text = not (pa.types.is_boolean(each.type) or pa.types.is_integer(each.type) or pa.types.is_floating(each.type))
        if text and each.name not in (IMAGE, THUMBNAIL, *_OWN):
            raise DamagedCellError(f"{path.name} has {each.type} in column {each.name!r}")


def _is(kind: pa.DataType, wanted: str) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if wanted == "text":
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if wanted == "f":
        return bool(pa.types.is_floating(kind))
    return bool(pa.types.is_boolean(kind) if wanted == "b" else pa.types.is_integer(kind))


def _mapping(value: object) -> dict[str, Any]:
    return {str(name): part for name, part in value.items()} if isinstance(value, Mapping) else {}


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
