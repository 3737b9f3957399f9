"""Runs in parts, the progress file, and what happens when a run breaks off in the middle."""

import errno
import json
from pathlib import Path

import pytest
import tiny_models
import torch
from test_run import same, sweep

from pcbench.cli.app import main
from pcbench.errors import RunError, UserError
from pcbench.harness.local import evaluate
from pcbench.harness.plan import Request, make_plan
from pcbench.harness.run import RunResult
from pcbench.perturbations.noise import Noise
from pcbench.results import store as stores
from pcbench.results.load import load_results
from pcbench.results.shards import Shard, merge
from pcbench.results.store import read_info

MODELS = ("tiny_models:tiny", "tiny_models:still")


def test_merged_shards_are_the_whole_run(tmp_path: Path, suite: str) -> None:
    whole = sweep(tmp_path / "whole", suite, MODELS)
    parts = [sweep(tmp_path / "parts", suite, MODELS, shard=f"{index}/3") for index in (3, 1, 2)]
    cells = [set(part.results.info.cells) for part in parts]
    assert set.union(*cells) == set(whole.results.info.cells)
    assert sum(map(len, cells)) == len(whole.results.info.cells)

    merge(tmp_path / "parts")
    again = merge(tmp_path / "parts")
    same(whole, RunResult(tmp_path / "parts", load_results(tmp_path / "parts"), whole.believability))
    assert list(again.cells) == list(whole.results.info.cells)
    assert again.identity == whole.results.info.identity
    assert "--shard" not in again.command

    before = tiny_models.Tiny.rollout
    tiny_models.Tiny.rollout = None  # type: ignore[assignment, method-assign]
    try:  # the merged run is complete: the whole command has nothing left to do
        sweep(tmp_path / "parts", suite, MODELS)
    finally:
        tiny_models.Tiny.rollout = before  # type: ignore[method-assign]


@pytest.fixture
def parts(tmp_path: Path, suite: str) -> Path:
    for index in (1, 2):
        sweep(tmp_path / "parts", suite, shard=f"{index}/2")
    return tmp_path / "parts"


def refused(directory: Path, says: str) -> None:
    with pytest.raises(UserError, match=says):
        merge(directory)
    assert not (directory / "run.json").exists()
    assert not (directory / "records").exists()


def test_a_missing_shard_is_named(parts: Path) -> None:
    (parts / "shard-2-of-2").rename(parts.parent / "elsewhere")
    refused(parts, "shards are missing: 2/2")


def test_an_unfinished_shard_is_named(parts: Path) -> None:
    path = parts / "shard-2-of-2" / "run.json"
    path.write_text(path.read_text().replace('"status": "complete"', '"status": "interrupted"'))
    refused(parts, "shard-2-of-2 is not finished")


def test_a_damaged_shard_is_named(parts: Path) -> None:
    next((parts / "shard-1-of-2" / "records").iterdir()).write_bytes(b"nothing")
    refused(parts, "shard-1-of-2 is damaged")


def test_a_shard_of_another_run_is_refused(parts: Path, suite: str, tmp_path: Path) -> None:
    sweep(tmp_path / "other", suite, shard="2/2", seed=1)
    (parts / "shard-2-of-2").rename(tmp_path / "away")
    (tmp_path / "other" / "shard-2-of-2").rename(parts / "shard-2-of-2")
    refused(parts, "not of the same run")


def test_a_directory_without_shards_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "has no shards")


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_a_wrong_shard_is_refused_before_anything_is_written(tmp_path: Path, suite: str, text: str) -> None:
    with pytest.raises(UserError, match="2/8"):
        sweep(tmp_path / "run", suite, shard=text)
    assert not (tmp_path / "run").exists()


def test_the_command_merges(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["merge", str(parts), "--no-figures"])
    assert end.value.code == 0
    assert "7 cells" in capsys.readouterr().out
    assert Shard.parse("1/2").directory(parts).is_dir()


def test_the_progress_file_ends_with_the_state_of_the_run(tmp_path: Path, suite: str) -> None:
    sweep(tmp_path / "run", suite)
    lines = [json.loads(line) for line in (tmp_path / "run" / "progress.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", *["cell"] * 7, "end"]
    assert [line["done"] for line in lines] == [0, *range(1, 8), 7]
    assert lines[-1]["ended"] == "complete"
    accuracy = load_results(tmp_path / "run").accuracy
    first = accuracy[(accuracy["perturbation"] == "clean") & (accuracy["timestep"] == 0)]["accuracy"].item()
    assert lines[1]["first"] == pytest.approx(first)


def test_run_json_says_how_long_each_stage_took_over_all_resumptions(tmp_path: Path, suite: str) -> None:
    sweep(tmp_path / "run", suite)
    once = read_info(tmp_path / "run").seconds
    assert set(once) == {"models", "images", "sweep", "writing", "beside", "checks"}
    assert 0 < once["writing"] < once["sweep"]
    sweep(tmp_path / "run", suite)
    twice = read_info(tmp_path / "run").seconds
    assert all(twice[stage] >= once[stage] for stage in once)
    assert twice["images"] > once["images"]


def test_bad_input_that_shows_in_the_middle_fails_the_run_and_keeps_what_is_finished(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UserError("an image cannot be decoded")

    with monkeypatch.context() as patch:
        patch.setattr(Noise, "on_float", refuse)
        with pytest.raises(RunError, match="cannot be decoded; what was finished is kept"):
            sweep(tmp_path / "run", suite)
    assert read_info(tmp_path / "run").status == "failed"
    assert list(read_info(tmp_path / "run").cells) == ["tiny_models:tiny small clean 0"]
    same(sweep(tmp_path / "run", suite), sweep(tmp_path / "undisturbed", suite))


def test_a_disk_that_fills_up_stops_the_run_which_goes_on_later(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    real = stores.os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(stores.os, "fsync", fsync)
        with pytest.raises(RunError, match="No space left on device; what was finished is kept"):
            sweep(tmp_path / "run", suite)
    assert not list((tmp_path / "run").rglob("*.part"))
    kept = read_info(tmp_path / "run").cells
    assert 0 < len(kept) < 7
    same(sweep(tmp_path / "run", suite), sweep(tmp_path / "undisturbed", suite))


def test_a_defect_leaves_a_run_that_goes_on(tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> object:
        yield next(iter(evaluate(*arguments)))  # type: ignore[arg-type]
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("pcbench.harness.run.evaluate", broken)
        with pytest.raises(ZeroDivisionError):
            sweep(tmp_path / "run", suite)
    assert read_info(tmp_path / "run").status == "failed"
    same(sweep(tmp_path / "run", suite), sweep(tmp_path / "undisturbed", suite))


def test_results_of_different_devices_are_not_mixed(suite: str) -> None:
    plan = make_plan(Request(("tiny_models:tiny",), (suite,)), torch.device("cpu"))
    assert plan.identity("images", "cuda") != plan.identity("images", "cpu") == plan.identity("images")


def test_a_line_of_progress_that_broke_off_is_dropped_when_the_run_goes_on(tmp_path: Path, suite: str) -> None:
    sweep(tmp_path / "run", suite)
    path = tmp_path / "run" / "progress.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    sweep(tmp_path / "run", suite)
    text = path.read_text()
    assert text.startswith(whole)
    assert [json.loads(line)["event"] for line in text[len(whole) :].splitlines()] == ["start", "end"]
