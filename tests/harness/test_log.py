"""What a run logs: on standard error as much as is asked for, and in run.log."""

import logging
import re
from pathlib import Path

import pytest
from test_run import sweep

from pcbench.cli.app import main
from pcbench.errors import RunError
from pcbench.harness.log import LOG_FILE

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (DEBUG|INFO|WARNING|ERROR) \S.*")


def words(suite: str, output: Path, *more: str) -> list[str]:
    run = ["run", "--model", "tiny_models:tiny", "--suite", suite, "--data", "samples", "--output", str(output)]
    return [*run, "--workers", "0", "--no-figures", "--batch-size", "7", *more]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        main(list(arguments))
    return capsys.readouterr().err


def test_the_log_file_has_a_line_for_each_cell_and_names_no_place(tmp_path: Path, suite: str) -> None:
    sweep(tmp_path / "run", suite)
    text = (tmp_path / "run" / LOG_FILE).read_text()
    lines = text.splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert "sweep of 7 cells of 20 images each, 0 of them finished before" in lines[0]
    assert sum("INFO finished tiny_models:tiny " in line for line in lines) == 7
    assert lines[-1].endswith("INFO complete")
    assert str(tmp_path) not in text
    logger = logging.getLogger("pcbench")
    assert (logger.level, logger.handlers) == (logging.NOTSET, []), "a run leaves the user's logging as it was"


def test_levels_decide_what_standard_error_shows(
    tmp_path: Path, suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = said(capsys, *words(suite, tmp_path / "a", "--quiet"))
    assert "finished" not in quiet
    info = said(capsys, *words(suite, tmp_path / "b", "--quiet", "--log-level", "info"))
    assert info.count("finished tiny_models:tiny") == 7
    debug = said(capsys, *words(suite, tmp_path / "c", "--quiet", "--log-level", "debug"))
    assert debug.count("images done") == 7 * 3
    assert (tmp_path / "c" / LOG_FILE).read_text().count("DEBUG") == 7 * 3
    assert "DEBUG" not in (tmp_path / "b" / LOG_FILE).read_text()


def test_an_unknown_level_is_refused(tmp_path: Path, suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean warning" in said(capsys, *words(suite, tmp_path / "run", "--log-level", "warnin"))
    assert not (tmp_path / "run").exists()


def test_what_befalls_a_run_is_logged(
    tmp_path: Path, suite: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    sweep(tmp_path / "run", suite)
    next((tmp_path / "run" / "records").iterdir()).write_bytes(b"damaged")
    warned = said(capsys, *words(suite, tmp_path / "run", "--quiet"))
    assert "computed again" in " ".join(warned.split()), warned  # lines wrap where the random name of a cell ends
    sweep(tmp_path / "greedy", suite, "tiny_models:greedy", batch_size=20)
    assert "memory ran out; going on with 10 images at once" in (tmp_path / "greedy" / LOG_FILE).read_text()
    with pytest.raises(RunError):
        sweep(tmp_path / "explodes", suite, "tiny_models:explodes")
    assert "INFO broken off: tiny_models:explodes gives" in (tmp_path / "explodes" / LOG_FILE).read_text()
