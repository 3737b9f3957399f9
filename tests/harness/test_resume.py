"""Runs in parts, the progress file, and what happens when a run breaks off in the middle."""

import errno
import json
from pathlib import Path

import pytest
import tiny_models
import torch
from test_run import contents, same, sweep

from pcbench.cli.app import main
from pcbench.errors import RunError, UserError
from pcbench.harness.local import evaluate
from pcbench.perturbations.noise import Noise
from pcbench.results import disk
from pcbench.results.requests import read_requests
from pcbench.results.study import load_results

MODELS = ("tiny_models:tiny", "tiny_models:still")


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_shards_fill_one_directory(tmp_path: Path, suite: str) -> None:
    whole = sweep(tmp_path / "whole", suite, MODELS)
    counts = []
    for index in (3, 1, 2):
        part = sweep(tmp_path / "parts", suite, MODELS, shard=f"{index}/3")
        counts.append(len(contents(tmp_path / "parts")))
    assert counts == sorted(set(counts))
    assert counts[-1] == 14
    same(whole, part)
    assert len(read_requests(tmp_path / "parts").requests) == 1


def test_shards_apart_are_merged_and_merging_again_changes_nothing(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sweep(tmp_path / "whole", suite, MODELS)
    for index in (1, 2):
        sweep(tmp_path / "parts" / str(index), suite, MODELS, shard=f"{index}/2")
    for _ in range(2):
        assert command("merge", tmp_path / "parts", "--output", tmp_path / "merged") == 0
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")
    for name in ("accuracy.csv", "cost.csv"):
        assert (tmp_path / "merged" / name).exists()
    assert (tmp_path / "merged" / "accuracy.csv").read_bytes() == (whole.directory / "accuracy.csv").read_bytes()
    study = load_results(tmp_path / "merged")
    assert [study.status_of(placed) for placed in study.requests] == ["complete"]
    parent = load_results(tmp_path)  # the parts, the whole and the merged one: every cell counts once
    assert len(parent.cells) == 14

    rollout = tiny_models.Tiny.rollout

    def refuse(self: tiny_models.Tiny, x: torch.Tensor, timesteps: int) -> torch.Tensor:
        if len(x) > 1:  # one image tells how many classes there are
            raise AssertionError("computed again")
        return rollout(self, x, timesteps)

    # the merged run is complete: the whole command has nothing left to do
    monkeypatch.setattr(tiny_models.Tiny, "rollout", refuse)
    sweep(tmp_path / "merged", suite, MODELS, timesteps=2)


def test_a_damaged_cell_is_not_merged_and_named(tmp_path: Path, suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(tmp_path / "run", suite)
    victim = next((tmp_path / "run" / "records").iterdir())
    victim.write_bytes(b"nothing")
    assert command("merge", tmp_path / "run", "--output", tmp_path / "merged", "--no-figures") == 0
    said = capsys.readouterr()
    assert victim.name in said.err
    assert "6 cells copied" in said.out


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_a_wrong_shard_is_refused_before_anything_is_written(tmp_path: Path, suite: str, text: str) -> None:
    with pytest.raises(UserError, match="2/8"):
        sweep(tmp_path / "run", suite, shard=text)
    assert not (tmp_path / "run").exists()


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
    once = read_requests(tmp_path / "run").requests[0].seconds
    assert {"models", "images", "sweep", "deriving"} <= set(once)
    sweep(tmp_path / "run", suite)
    twice = read_requests(tmp_path / "run").requests[0].seconds
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
    assert read_requests(tmp_path / "run").requests[0].status == "failed"
    assert ["_clean_" in name for name in contents(tmp_path / "run")] == [True]
    same(sweep(tmp_path / "run", suite), sweep(tmp_path / "undisturbed", suite))


def test_a_disk_that_fills_up_stops_the_run_which_goes_on_later(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    real = disk.os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(disk.os, "fsync", fsync)
        with pytest.raises(RunError, match="No space left on device; what was finished is kept"):
            sweep(tmp_path / "run", suite)
    assert not list((tmp_path / "run").rglob(".part-*"))
    assert 0 < len(contents(tmp_path / "run")) < 7
    same(sweep(tmp_path / "run", suite), sweep(tmp_path / "undisturbed", suite))


def test_a_defect_leaves_a_run_that_goes_on(tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> object:
        yield next(iter(evaluate(*arguments)))  # type: ignore[arg-type]
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("pcbench.harness.run.evaluate", broken)
        with pytest.raises(ZeroDivisionError):
            sweep(tmp_path / "run", suite)
    assert read_requests(tmp_path / "run").requests[0].status == "failed"
    same(sweep(tmp_path / "run", suite), sweep(tmp_path / "undisturbed", suite))


def test_a_line_of_progress_that_broke_off_is_dropped_when_the_run_goes_on(tmp_path: Path, suite: str) -> None:
    sweep(tmp_path / "run", suite)
    path = tmp_path / "run" / "progress.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    sweep(tmp_path / "run", suite)
    text = path.read_text()
    assert text.startswith(whole)
    assert [json.loads(line)["event"] for line in text[len(whole) :].splitlines()] == ["start", "end"]


def damage(path: Path) -> None:
    """Other bytes in the records of a cell; key and seal stay readable."""
    content = bytearray(path.read_bytes())
    for place in range(60, 200):
        content[place] ^= 0xFF
    path.write_bytes(bytes(content))


def test_a_cell_with_damaged_records_is_computed_again(tmp_path: Path, suite: str) -> None:
    result = sweep(tmp_path / "run", suite)
    before = contents(result.directory)
    damage(result.study.cells[0].path)
    assert load_results(result.directory).cells[0].verify() != ""
    assert contents(sweep(tmp_path / "run", suite).directory) == before


@pytest.mark.parametrize("order", [("bad", "good"), ("good", "bad")])
def test_merging_takes_the_copy_that_is_whole(tmp_path: Path, suite: str, order: tuple[str, str]) -> None:
    good = sweep(tmp_path / "good", suite)
    bad = sweep(tmp_path / "bad", suite)
    damage(bad.study.cells[0].path)
    command("merge", *(tmp_path / name for name in order), "--output", tmp_path / "merged", "--no-figures")
    assert contents(tmp_path / "merged") == contents(good.directory)
    command("merge", tmp_path / "good", "--output", tmp_path / "bad", "--no-figures")  # which mends it
    assert contents(tmp_path / "bad") == contents(good.directory)
