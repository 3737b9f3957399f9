"""Results from strangers: nothing is written elsewhere, nothing linked is read, and no text does anything."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic import Model, answers_of, condition_of, gaussian_noise, make_run, standard_models

from pcbench.analysis.derived import to_csv
from pcbench.cli.app import main
from pcbench.cli.results import command as results
from pcbench.keys import CellKey, ModelKey
from pcbench.report.tables import Cell, Grid, to_markdown
from pcbench.results.cell import encode
from pcbench.results.directory import Directory
from pcbench.results.disk import write_atomically
from pcbench.results.study import load_results

SUITES = {"noise": gaussian_noise()}


def merged(source: Path, target: Path) -> int:
    with pytest.raises(SystemExit) as end:
        main(["merge", str(source), "--output", str(target), "--no-figures"])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    return make_run(tmp_path / "stranger", standard_models(1), SUITES, n=4)


def test_merging_writes_through_no_link_in_the_target(tmp_path: Path, stranger: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.write_text("mine")
    assert merged(stranger, target) == 0
    victim = next((target / "records").iterdir())
    victim.unlink()
    victim.symlink_to(outside)
    assert merged(stranger, target) == 2
    victim.unlink()
    (target / ".run.json.part").symlink_to(outside)  # the temporary name that used to be foreseen
    assert merged(stranger, target) == 2
    (target / ".run.json.part").unlink()
    assert merged(stranger, target) == 0
    assert outside.read_text() == "mine"


def test_the_name_of_a_file_is_made_from_its_key_and_never_taken_over(tmp_path: Path, stranger: Path) -> None:
    for path in (stranger / "records").iterdir():
        path.rename(path.with_name(f"renamed-{path.name}"))
    assert merged(stranger, tmp_path / "target") == 0
    assert list((tmp_path / "target" / "records").iterdir()) == []
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"stranger", "target"}


def test_a_temporary_file_cannot_be_foreseen_nor_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    monkeypatch.setattr("pcbench.results.disk.secrets.token_hex", lambda size: "guessed")
    (tmp_path / ".part-guessed").symlink_to(outside)
    from pcbench.errors import RunError

    with pytest.raises(RunError, match="cannot write file"):
        write_atomically(tmp_path / "file", b"theirs")
    assert outside.read_text() == "mine"


def test_a_linked_table_is_not_read_into_a_report(tmp_path: Path, stranger: Path) -> None:
    secret = tmp_path / "secret.env"
    secret.write_text("TOKEN=12345,x\n1,2\n")
    (stranger / "leak.csv").symlink_to(secret)
    (stranger / "cost.csv").unlink()
    (stranger / "cost.csv").symlink_to(secret)
    with pytest.raises(SystemExit) as end:
        main(["report", str(stranger), "--output", str(tmp_path / "page.html")])
    assert end.value.code == 0
    assert "12345" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_run_json_that_is_no_file_is_named_and_nothing_waits(tmp_path: Path, stranger: Path, kind: str) -> None:
    path = stranger / "run.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    study = load_results(stranger)
    assert "run.json cannot be read" in study.problems[0]
    assert len(study.cells) == 12


def test_names_of_strangers_are_no_markup_no_escapes_and_no_formulas(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [Model("[/bold]net", 1), Model("=cmd()")], SUITES, n=4)
    with pytest.raises(SystemExit) as end:
        main(["compare", str(run)])
    assert end.value.code == 0
    path = run / "run.json"
    info = json.loads(path.read_text())
    info["requests"][0]["models"] = ["\x1b[2Jnet", "[/red]"]
    info["requests"][0]["notices"] = ["\x1b]0;title\x07"]
    path.write_text(json.dumps(info))
    said = CliRunner().invoke(results, [str(run)])
    assert said.exit_code == 0, said.output
    assert "\x1b" not in said.output
    table = to_csv(load_results(run).accuracy).decode()
    assert "\n=cmd" not in table
    assert "\n'=cmd()," in table
    assert "<b>" not in to_markdown(Grid("<b>t", ["<b>"], [[Cell("<b>x|y")]]))


def test_a_key_with_escapes_in_it_is_no_cell(tmp_path: Path) -> None:
    model, condition = Model("net", 1), ("gaussian-noise", "noise", 1.0)
    run = make_run(tmp_path / "a", [model], {"noise": [condition]}, n=4)
    cell = load_results(run).cells[0]
    key: CellKey = replace(cell.key, model=ModelKey("net\x1b[31m", "tag"), condition=condition_of(condition))
    import numpy as np

    labels = np.zeros(4, dtype=int)
    content = encode(key, answers_of(model, condition, ["a", "b", "c", "d"], labels, 0), {}, {})
    (run / "records" / f"{key.stem}.parquet").write_bytes(content)
    study = load_results(run)
    assert len(study.cells) == 1
    assert "cannot be printed" in study.problems[0]


def test_a_directory_is_resolved_once(tmp_path: Path, stranger: Path) -> None:
    place, other = tmp_path / "place", tmp_path / "other"
    place.mkdir()
    other.mkdir()
    link = tmp_path / "link"
    link.symlink_to(place)
    with Directory(link / "run") as directory:
        link.unlink()
        link.symlink_to(other)
        directory.write("file", b"x")
    assert (place / "run" / "file").exists()
    assert not (other / "run").exists()
