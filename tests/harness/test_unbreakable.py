"""What happens to a run in a week: it is killed, interrupted, and its clock jumps. The records must not show it."""

import os
import random
import re
import shlex
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from children import start

from pcbench.perturbations.corruptions import NAMES
from pcbench.results.directory import read_cells
from pcbench.results.requests import read_requests

SUITE = f"""
name = "long"
version = 1
description = "enough conditions to be killed in"

[[perturbations]]
kind = "corruption"
names = {list(NAMES)}
severities = [1, 2]
"""
CELLS = 2 * len(NAMES)  # two at a time


@pytest.fixture
def command(tmp_path: Path) -> Callable[[str], BaseProcess]:
    (tmp_path / "long.toml").write_text(SUITE)

    def run(name: str) -> BaseProcess:
        words = ["run", "--model", "tiny_models:slow", "--suite", str(tmp_path / "long.toml"), "--data", "samples"]
        words += ["--output", str(tmp_path / name), "--workers", "0", "--batch-size", "7", "--no-figures", "--quiet"]
        return start(words, tmp_path / f"{name}.said")

    return run


def finished(directory: Path) -> int:
    return len(list((directory / "records").glob("*.parquet")))


def wait_until(condition: Callable[[], bool], process: BaseProcess) -> None:
    while not condition() and process.is_alive():
        time.sleep(0.005)


def ended(process: BaseProcess) -> int | None:
    process.join()
    return process.exitcode


def contents(directory: Path) -> dict[str, str]:
    return {cell.path.name: cell.content for cell in read_cells(directory, lambda line: pytest.fail(line))}


def status(directory: Path) -> str:
    return read_requests(directory).requests[0].status


def assert_same(directory: Path, reference: Path) -> None:
    assert status(directory) == "complete"
    assert (directory / "accuracy.csv").read_bytes() == (reference / "accuracy.csv").read_bytes()
    assert contents(directory) == contents(reference)
    assert not (directory / ".work").exists()


@pytest.mark.slow
def test_killed_at_20_random_moments_it_ends_as_undisturbed(
    tmp_path: Path, command: Callable[[str], BaseProcess]
) -> None:
    assert ended(command("reference")) == 0
    generator = random.Random(0)
    killed = 0
    for _ in range(20):
        process = command("run")
        before = finished(tmp_path / "run")
        # Anywhere from its first moments on; now and then only after it has finished another cell.
        later = generator.random() < 0.4
        wait_until(lambda: not later or finished(tmp_path / "run") > before, process)  # noqa: B023 - called in this turn
        time.sleep(generator.uniform(0.0, 0.25))
        process.kill()
        killed += ended(process) == -signal.SIGKILL
        assert finished(tmp_path / "run") >= before
    assert killed == 20
    assert 0 < finished(tmp_path / "run") < CELLS
    assert ended(command("run")) == 0
    assert_same(tmp_path / "run", tmp_path / "reference")


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_exits_with_130_and_says_how_to_go_on(
    tmp_path: Path, command: Callable[[str], BaseProcess], times: int
) -> None:
    process = command("run")
    wait_until(lambda: finished(tmp_path / "run") > 0, process)
    assert process.pid is not None
    for _ in range(times):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.002)
    assert ended(process) == 130
    said = (tmp_path / "run.said").read_text()
    assert "interrupted" in said
    assert "Traceback" not in said
    if times == 1:
        assert "go on with: pcbench run" in said
        assert status(tmp_path / "run") == "interrupted"
    assert finished(tmp_path / "run") < CELLS
    assert ended(command("run")) == 0
    assert ended(command("reference")) == 0
    assert_same(tmp_path / "run", tmp_path / "reference")


def test_a_clock_that_jumps_changes_no_duration_and_no_result(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pcbench.harness.run import run

    def sweep(name: str) -> Path:
        output = tmp_path / name
        run(
            model="tiny_models:tiny", suite=suite, data="samples", output=output, workers=0, figures=False, batch_size=7
        )
        return tmp_path / name

    reference = sweep("reference")
    now = time.time
    jumps = iter([0.0, 86_400.0, -86_400.0 * 365] * 100_000)
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    directory = sweep("run")
    assert_same(directory, reference)
    cells = read_cells(directory, lambda line: pytest.fail(line))
    assert all(0 <= seconds < 60 for cell in cells for seconds in cell.seconds.values())


@pytest.mark.slow
def test_two_processes_in_one_directory_both_finish_and_share_the_work(
    tmp_path: Path, command: Callable[[str], BaseProcess]
) -> None:
    first, second = command("run"), command("run")
    assert (ended(first), ended(second)) == (0, 0)
    assert finished(tmp_path / "run") == CELLS
    assert ended(command("reference")) == 0
    assert_same(tmp_path / "run", tmp_path / "reference")
    done = re.findall(r"finished tiny_models:slow", (tmp_path / "run" / "run.log").read_text())
    assert len(done) <= CELLS + 4, "cells were computed twice, beyond the groups of a race"


@pytest.mark.slow
def test_a_process_that_is_killed_beside_another_loses_nothing(
    tmp_path: Path, command: Callable[[str], BaseProcess]
) -> None:
    first, second = command("run"), command("run")
    wait_until(lambda: finished(tmp_path / "run") > 3, first)
    first.kill()
    assert ended(first) == -signal.SIGKILL
    assert ended(second) == 0
    assert ended(command("reference")) == 0
    assert_same(tmp_path / "run", tmp_path / "reference")


@pytest.mark.slow
def test_sigterm_keeps_what_is_finished_says_how_to_go_on_and_exits_with_143(
    tmp_path: Path, command: Callable[[str], BaseProcess]
) -> None:
    process = command("run")
    wait_until(lambda: finished(tmp_path / "run") > 0, process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    assert ended(process) == 143
    said = (tmp_path / "run.said").read_text()
    words = shlex.split(said.partition("go on with: ")[2])
    assert words[:2] == ["pcbench", "run"]
    from pcbench.cli.app import main

    with pytest.raises(SystemExit) as end:  # the line works as it was printed
        main(words[1:])
    assert end.value.code == 0
    assert ended(command("reference")) == 0
    assert_same(tmp_path / "run", tmp_path / "reference")
