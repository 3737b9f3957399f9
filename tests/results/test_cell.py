"""One cell, one file: whole, self-contained, and not believed further than it can be checked."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcbench.keys import CellKey, Condition, DataKey, ModelKey
from pcbench.results.cell import Answers, DamagedCellError, encode, read_cell, reduced
from pcbench.results.disk import open_regular

N, T = 6, 2
KEY = CellKey(
    ModelKey("net", "tag", {}, "c" * 64),
    DataKey("made", "f" * 64, N),
    Condition("corruption", "fog", "weather", 3.0),
    T,
    "predictions",
    0,
    "float32",
    "2",
)
IDS = ["e", "a", "c", "b", "f", "d"]


def answers(seed: int = 0) -> Answers:
    rng = np.random.default_rng(seed)
    per_step = {
        "prediction": rng.integers(0, 3, (T + 1, N)).astype(np.int32),
        "confidence": rng.random((T + 1, N)).astype(np.float32),
        "nll": rng.random((T + 1, N)).astype(np.float32),
        "prediction_cumulative": rng.integers(0, 3, (T + 1, N)).astype(np.int32),
    }
    return Answers(IDS, rng.integers(0, 3, N), per_step, {"attacked": rng.random(N) > 0.5}, {2: b"picture"})


def written(folder: Path, key: CellKey = KEY, content: bytes | None = None) -> Path:
    path = folder / f"{key.stem}.parquet"
    path.write_bytes(encode(key, answers(), {"model": {"has_dynamics": True}}, {}) if content is None else content)
    return path


def test_a_cell_comes_back_with_images_in_the_order_of_their_ids(tmp_path: Path) -> None:
    said = answers()
    cell = read_cell(written(tmp_path))
    assert cell.key == KEY
    order = np.argsort(IDS)
    expected = (said.per_step["prediction"] == said.labels)[:, order]
    np.testing.assert_array_equal(cell.correct, expected)
    np.testing.assert_array_equal(cell.counts(), expected.sum(axis=1))
    np.testing.assert_array_equal(cell.matrix("confidence"), said.per_step["confidence"][:, order])
    records = cell.records()
    assert records["image"].astype(str).tolist() == list(np.repeat(sorted(IDS), T + 1))
    assert records["timestep"].tolist() == list(range(T + 1)) * N
    assert (records["model"] == "net").all()
    assert cell.verify() == ""


def test_pandas_reads_it_without_pcbench(tmp_path: Path) -> None:
    frame = pd.read_parquet(written(tmp_path))
    wanted = {"model", "weights", "data", "perturbation", "group", "severity", "image", "label", "timestep", "correct"}
    assert wanted <= set(frame)
    assert frame["severity"].tolist() == [3.0] * (N * (T + 1))


def test_constant_columns_cost_next_to_nothing(tmp_path: Path) -> None:
    n, steps = 20_000, 2
    key = replace(KEY, data=DataKey("made", "f" * 64, n))
    rng = np.random.default_rng(0)
    per_step = {name: rng.integers(0, 1000, (steps + 1, n)).astype(np.int32) for name in ("prediction",)}
    content = encode(key, Answers([f"{i:08d}" for i in range(n)], rng.integers(0, 1000, n), per_step), {}, {})
    meta = pq.ParquetFile(pa.BufferReader(content)).metadata
    constant = {"model", "weights", "data", "perturbation", "group", "severity", "seed", "dtype", "T"}
    columns = [meta.row_group(0).column(i) for i in range(meta.num_columns)]
    assert sum(c.total_compressed_size for c in columns if c.path_in_schema in constant) < 9 * 200


def test_records_are_the_same_whatever_the_order_of_the_images(tmp_path: Path) -> None:
    said = answers()
    turned = Answers(
        IDS[::-1],
        said.labels[::-1],
        {name: value[:, ::-1] for name, value in said.per_step.items()},
        {name: value[::-1] for name, value in said.per_image.items()},
    )
    one = read_cell(written(tmp_path))
    (tmp_path / "b").mkdir()
    two = read_cell(written(tmp_path / "b", content=encode(KEY, turned, {}, {})))
    assert one.content == two.content
    assert one.order == two.order


def test_answers_alone_keep_every_count_and_name_what_they_came_from(tmp_path: Path) -> None:
    whole = read_cell(written(tmp_path))
    (tmp_path / "b").mkdir()
    small = read_cell(written(tmp_path / "b", content=reduced(whole)))
    np.testing.assert_array_equal(small.correct, whole.correct)
    assert small.provenance["reduced_from"] == whole.content
    assert small.order == whole.order
    assert small.columns == ("correct",)
    assert small.verify() == ""
    with pytest.raises(DamagedCellError, match="has no column 'confidence'"):
        small.column("confidence")


def test_a_file_with_another_key_than_its_name_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    other = path.with_name(f"{replace(KEY, seed=1).stem}.parquet")
    path.rename(other)
    with pytest.raises(DamagedCellError, match="holds another cell than its name says"):
        read_cell(other)


def test_records_of_schema_1_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "old.parquet"
    pd.DataFrame({"model": ["m"], "correct": [True]}).to_parquet(path)
    with pytest.raises(DamagedCellError, match="schema 1, which this pcbench does not read"):
        read_cell(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_byte_is_noticed_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    path = written(folder)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        cell = read_cell(path)
    except DamagedCellError:
        return
    assert cell.key == KEY
    if cell.verify() == "":
        clean = read_cell(written(folder))
        np.testing.assert_array_equal(cell.correct, clean.correct)


def sealed(table: pa.Table, **changes: object) -> bytes:
    """A file that a stranger made with care: its seal is right."""
    meta = {
        "schema": 2,
        "key": json.loads(KEY.text),
        "content": "0" * 64,
        "order": "0" * 64,
        "provenance": {},
        "report": {},
        **changes,
    }
    text = json.dumps(meta)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"pcbench": text, "pcbench-seal": hashlib.sha256(text.encode()).hexdigest()})
    return sink.getvalue().to_pybytes()


ROWS = N * (T + 1)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pa.table({"correct": pa.array([True]).take(pa.array([0] * 1_000_000))}), "has 1000000 rows; its key says 18"),
        (pa.table({"correct": [1] * ROWS}), "has int64 in column 'correct'"),
        (pa.table({"correct": [[True]] * ROWS}), "in column 'correct'"),
        (pa.table({"correct": [True] * ROWS, "x": [{"a": 1}] * ROWS}), "struct"),
        (pa.table({"correct": [True] * ROWS, "label": ["1"] * ROWS}), "in column 'label'"),
        (pa.table({"right": [True] * ROWS}), "has no column 'correct'"),
        (pa.table({"correct": [True] * ROWS, **{f"c{i}": [0] * ROWS for i in range(100)}}), "more than any cell"),
        (pa.table({"correct": [True] * ROWS, "x": ["y" * 1_000_000] * ROWS}), "has string in column 'x'"),
        (pa.table({"correct": [True] * ROWS, "image": [f"{i}" * 3_000_000 for i in range(ROWS)]}), "records take"),
    ],
)
def test_what_the_key_does_not_promise_is_refused_before_it_is_read(tmp_path: Path, table: pa.Table, says: str) -> None:
    with pytest.raises(DamagedCellError, match=says):
        read_cell(written(tmp_path, content=sealed(table)))


def test_records_that_were_exchanged_are_found(tmp_path: Path) -> None:
    cell = read_cell(written(tmp_path, content=sealed(pa.table({"correct": [True] * ROWS}))))
    assert "not those that were sealed" in cell.verify()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "device"])
def test_only_regular_files_are_opened_and_nothing_waits(tmp_path: Path, kind: str) -> None:
    target = written(tmp_path)
    path = tmp_path / "b" / target.name
    path.parent.mkdir()
    if kind == "link":
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(OSError, match=r".+"):
        open_regular(path, 10**9)
    with pytest.raises(DamagedCellError):
        read_cell(path)
