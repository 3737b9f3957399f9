"""A run directory: whole files, one writer, nothing lost."""

import errno
import json
import os
from pathlib import Path

import pandas as pd
import pytest
from synthetic import gaussian_noise, make_run, standard_models

from pcbench.errors import RunError, UserError
from pcbench.results.accuracy import accuracy_table
from pcbench.results.load import load_results
from pcbench.results.schema import SCHEMA_VERSION
from pcbench.results.store import RunStore, read_info, write_atomically


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", standard_models(2), {"gaussian-noise": gaussian_noise()}, n=10)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="cannot write file: No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_only_one_writer_at_a_time(directory: Path) -> None:
    info = read_info(directory)
    with RunStore(directory) as first:
        first.open(info)
        second = RunStore(directory)
        with pytest.raises(UserError, match="is being written by another process"):
            second.open(info)
    with RunStore(directory) as third:
        third.open(info)
        assert len(third.info.cells) == 12


def test_a_directory_with_other_things_is_refused(tmp_path: Path, directory: Path) -> None:
    info = read_info(directory)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("dear")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        RunStore(tmp_path / "notes").open(info)
    with pytest.raises(UserError, match="is a file"):
        RunStore(tmp_path / "notes" / "diary.txt").open(info)
    assert [entry.name for entry in (tmp_path / "notes").iterdir()] == ["diary.txt"]


def test_accuracy_is_what_counting_gives(directory: Path) -> None:
    results = load_results(directory)
    table = accuracy_table(results.records)
    assert len(table) == 6 * (3 + 1)
    for row in table.itertuples():
        count = correct = 0
        for record in results.records.itertuples():
            if (record.model, record.severity, record.timestep) == (row.model, row.severity, row.timestep):
                count += 1
                correct += int(record.prediction == record.label)
        assert (row.n, row.correct) == (count, correct)
        assert row.accuracy == pytest.approx(correct / count)
        assert 0 <= row.ci_low <= row.accuracy <= row.ci_high <= 1


def test_a_damaged_file_is_named_and_the_rest_is_loaded(directory: Path) -> None:
    files = sorted((directory / "records").iterdir())
    files[0].write_bytes(b"not parquet")
    files[1].unlink()
    run = load_results(directory).runs[0]
    assert run.records["severity"].size == 10 * (12 - 2) * 2 or not run.records.empty
    assert len(run.problems) == 2
    assert any(files[0].name in problem and "damaged" in problem for problem in run.problems)
    assert any(files[1].name in problem and "missing" in problem for problem in run.problems)


def test_a_record_file_outside_the_run_is_not_read(directory: Path, tmp_path: Path) -> None:
    pd.DataFrame({"secret": [1]}).to_parquet(tmp_path / "secret.parquet")
    info = json.loads((directory / "run.json").read_text())
    next(iter(info["cells"].values()))["file"] = "../secret.parquet"
    (directory / "run.json").write_text(json.dumps(info))
    run = load_results(directory).runs[0]
    assert "secret" not in run.records
    assert "outside the run" in run.problems[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, "upgrade pcbench"),
        ({"status": "asleep"}, "is damaged: status"),
        ({"unheard": 1}, "is damaged: unheard"),
        ({"models": 3}, "is damaged: models"),
    ],
)
def test_a_strange_run_json_is_refused_by_name(directory: Path, change: dict[str, object], message: str) -> None:
    info = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**info, **change}))
    with pytest.raises(UserError, match=message):
        load_results(directory)


def test_several_runs_are_loaded_together_and_damaged_ones_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_run(tmp_path / name, standard_models(1), {"gaussian-noise": gaussian_noise()}, n=4)
    (tmp_path / "b" / "run.json").write_text("{")
    results = load_results(tmp_path)
    assert [run.directory.name for run in results.runs] == ["a", "c"]
    assert len(results.problems) == 1
    assert "b/run.json is damaged" in results.problems[0]
    with pytest.raises(UserError, match="there are 2 runs"):
        _ = results.info


def test_no_run_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run in"):
        load_results(tmp_path)
    with pytest.raises(UserError, match="no directory"):
        load_results(tmp_path / "absent")
