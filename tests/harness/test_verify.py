"""`pcbench verify`: each kind of wrong result is found, and what cannot be checked here is not called wrong."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_models
import torch
from PIL import Image
from test_run import sweep

from pcbench.cli.app import main
from pcbench.harness.run import run
from pcbench.harness.verify import Finding, verify
from pcbench.numerics import NUMERICS
from pcbench.results.cell import Answers, Cell, _encode, encode, reduced
from pcbench.results.study import load_results

TRUST = ("tiny_models",)
SUITE = """
name = "few"
version = 1
description = "one condition of each kind"

[[perturbations]]
kind = "clean"

[[perturbations]]
kind = "noise"
sigma = [0.5]

[[perturbations]]
kind = "corruption"
names = ["contrast"]
severities = [2]
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    (folder / "few.toml").write_text(SUITE)
    return sweep(folder / "run", str(folder / "few.toml"), limit=6).directory


@pytest.fixture
def results(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "results"))


def checked(directory: Path, rerun: int = 0) -> list[Finding]:
    return list(verify(directory, rerun=rerun, trust=TRUST))


def wrong(findings: list[Finding]) -> list[tuple[str, str]]:
    """(what, why) of each difference."""
    return [(finding.what, finding.why) for finding in findings if finding.verdict == "differs"]


def verdicts(findings: list[Finding]) -> dict[tuple[str, str], int]:
    return dict(Counter((finding.what, finding.verdict) for finding in findings))


def files(directory: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.rglob("*") if path.is_file()}


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(stopped.value.code or 0)


def test_a_fresh_run_is_ok_and_nothing_is_written(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(results)
    findings = checked(results, rerun=3)
    assert verdicts(findings) == {
        ("accuracy.csv", "ok"): 1,
        ("cost.csv", "ok"): 1,
        ("records", "ok"): 3,
        ("key", "ok"): 3,
        ("rerun", "ok"): 3,
    }
    assert ended("verify", str(results), "--rerun", "1", "--json", "--trust", "tiny_models") == 0
    found = json.loads(capsys.readouterr().out)
    assert Counter(each["what"] for each in found)["rerun"] == 1
    assert files(results) == before


def test_an_edited_table_is_found(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = results / "accuracy.csv"
    lines = table.read_text().splitlines()
    place = lines[0].split(",").index("correct")
    words = lines[2].split(",")
    words[place] = str(int(words[place]) + 1)
    table.write_text("\n".join([*lines[:2], ",".join(words), *lines[3:]]) + "\n")
    ((what, why),) = wrong(checked(results))
    assert what == "accuracy.csv"
    assert why.startswith("line 3 says ")
    assert ended("verify", str(results)) == 1
    assert "differs: accuracy.csv" in capsys.readouterr().out


def test_a_table_with_rows_in_another_order_says_the_same(results: Path) -> None:
    table = results / "accuracy.csv"
    first, *rows = table.read_text().splitlines()
    table.write_text("\n".join([first, *rows[::-1]]) + "\n")
    assert wrong(checked(results)) == []


def test_a_table_that_is_gone_cannot_be_checked(results: Path) -> None:
    (results / "accuracy.csv").unlink()
    assert verdicts(checked(results))["accuracy.csv", "cannot be checked"] == 1
    assert ended("verify", str(results)) == 0


def test_edited_records_under_the_old_seal_are_found(results: Path) -> None:
    """The file is a good one, with the key and seal that it had; only its answers are others."""
    cell = load_results(results).cells[1]
    metadata = pq.read_metadata(cell.path).metadata
    table = pq.read_table(cell.path)
    place = table.column_names.index("confidence")
    other = pa.array(np.asarray(table.column(place)) * np.float32(0.5))
    with pq.ParquetWriter(cell.path, table.schema.remove_metadata(), store_schema=False) as writer:
        writer.write_table(table.set_column(place, "confidence", other).replace_schema_metadata(None))
        writer.add_key_value_metadata({k: v for k, v in metadata.items() if k.startswith(b"pcbench")})
    assert wrong(checked(results)) == [
        ("records", f"{cell.path.name}: the records are not those that were sealed"),
    ]


def exchanged(cell: Cell) -> None:
    """Put other wrong answers in the place of wrong ones, and seal them: no table changes."""
    steps = cell.key.timesteps + 1
    columns = {name: cell.matrix(name).copy() for name in cell.columns if name not in ("image", "label", "timestep")}
    columns = {name: values for name, values in columns.items() if name not in ("correct", "thumbnail")}
    labels = cell.column("label")[::steps]
    place = tuple(np.argwhere(columns["prediction"] != labels)[0])
    taken = {int(columns["prediction"][place]), int(labels[place[1]])}
    columns["prediction"][place] = next(other for other in range(3) if other not in taken)
    answers = Answers(list(cell.column("image")[::steps]), labels, columns)
    cell.path.write_bytes(encode(cell.key, answers, cell.provenance, cell.report))


def test_an_exchanged_cell_is_found_when_it_is_computed_again(results: Path) -> None:
    cell = load_results(results).cells[2]
    exchanged(cell)
    assert wrong(checked(results)) == []
    ((what, why),) = wrong(checked(results, rerun=3))
    assert what == "rerun"
    assert why.startswith("1 of 18 answers (prediction) are others; computed there with ")
    assert ended("verify", str(results), "--rerun", "3", "--trust", "tiny_models") == 1


def test_cells_of_other_parameters_are_found(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tiny_models.Tiny.__init__

    def other(self: tiny_models.Tiny) -> None:  # the same source, as a file of other weights would give
        make(self)
        with torch.no_grad():
            self.drift[0, 0] += 1

    monkeypatch.setattr(tiny_models.Tiny, "__init__", other)
    found = wrong(checked(results))
    assert [what for what, _ in found] == ["key"] * 3
    assert all("model.checksum is " in why for _, why in found)


def test_cells_of_other_images_are_found(tmp_path: Path) -> None:
    def picture(name: str, seed: int) -> None:
        path = tmp_path / "images" / "n01440764" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)).save(path)

    for seed in range(3):
        picture(f"{seed}.png", seed)
    (tmp_path / "few.toml").write_text(SUITE)
    where = str(tmp_path / "images")
    run(
        model="tiny_models:tiny",
        suite=str(tmp_path / "few.toml"),
        data=where,
        output=tmp_path / "run",
        workers=0,
        figures=False,
    )
    assert verdicts(list(verify(tmp_path / "run", where, trust=TRUST)))["key", "ok"] == 3
    picture("1.png", 9)
    found = wrong(list(verify(tmp_path / "run", where, trust=TRUST)))
    assert [what for what, _ in found] == ["key"] * 3
    assert all("data.fingerprint is " in why for _, why in found)
    picture("3.png", 3)  # more of them: another set of images, of which nothing here can say anything
    findings = list(verify(tmp_path / "run", where, rerun=3, trust=TRUST))
    assert verdicts(findings)["key", "cannot be checked"] == 3
    assert verdicts(findings)["rerun", "cannot be checked"] == 1
    assert wrong(findings) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda patch: patch.setattr("pcbench.harness.plan.NUMERICS", "999"),
            f"numerics is {NUMERICS} there and 999 here",
        ),
        (lambda patch: patch.setattr(tiny_models, "Tiny", None), "model tiny_models:tiny cannot be made"),
    ],
)
def test_what_other_code_computed_cannot_be_checked(
    results: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None], why: str
) -> None:
    change(monkeypatch)
    findings = checked(results, rerun=1)
    assert wrong(findings) == []
    keys = [finding for finding in findings if finding.what == "key"]
    assert [finding.verdict for finding in keys] == ["cannot be checked"] * 3
    assert all(why in finding.why for finding in keys)
    assert verdicts(findings)["records", "ok"] == 3
    assert ended("verify", str(results)) == 0


def test_a_cell_that_nobody_asked_for_or_that_is_damaged_is_named(results: Path) -> None:
    first, second, _ = load_results(results).cells
    second.path.write_bytes(second.path.read_bytes()[:-9])
    whole = json.loads((results / "run.json").read_text())
    for suite in whole["requests"][0]["suites"]:
        suite["cells"].remove(first.key.digest)
    (results / "run.json").write_text(json.dumps(whole))
    findings = checked(results)
    assert ("files", "differs") in verdicts(findings)
    assert any(second.path.name in why for what, why in wrong(findings) if what == "files")
    assert ("key", "cannot be checked") in verdicts(findings)


def test_cells_that_were_reduced_to_their_answers_are_computed_again_as_well(results: Path) -> None:
    cells = load_results(results).cells
    for cell in cells:
        cell.path.write_bytes(reduced(cell))
    findings = checked(results, rerun=3)
    assert wrong(findings) == []
    again = [finding for finding in findings if finding.what == "rerun"]
    assert [finding.verdict for finding in again] == ["ok"] * 3
    # an answer that is not what the network says: sealed anew, and its table made of it
    cell = replace(cells[0])
    table = load_results(results).cells[0].table(["correct"])
    flipped = np.asarray(table.column("correct")).copy()
    flipped[0] ^= True
    from pcbench.results.cell import _encode

    cell.path.write_bytes(
        _encode(cell.key, pa.table({"correct": flipped}), cell.provenance, cell.report, order=cell.order)
    )
    found = wrong(checked(results, rerun=3))
    assert {what for what, _ in found} == {"accuracy.csv", "rerun"}
    assert any("(correct)" in why for what, why in found if what == "rerun")


def test_no_results_are_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("verify", str(tmp_path)) == 2
    assert capsys.readouterr().err.startswith("error: no results in ")


def forged(cell: Cell, change: Callable[[pa.Table], pa.Table], **provenance: object) -> None:
    """Change records and seal them anew, as somebody who has this package can."""
    table = change(cell.table(cell.columns))
    cell.path.write_bytes(_encode(cell.key, table, {**cell.provenance, **provenance}, cell.report))


def set_column(name: str, values: object) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, pa.array(values))


@pytest.mark.parametrize("column", ["correct", "timestep", "image"])
def test_records_that_contradict_themselves_are_found_without_computing(results: Path, column: str) -> None:
    cell = load_results(results).cells[0]
    there = cell.column(column)
    values = {
        "correct": np.ones(len(there), dtype=bool),
        "timestep": np.zeros(len(there), dtype=np.int16),
        "image": ["one", *there.tolist()[1:]],
    }
    forged(cell, set_column(column, values[column]))
    assert any(what == "records" and repr(column) in why for what, why in wrong(checked(results)))


@pytest.mark.parametrize("column", ["label", "confidence", "nll", "prediction_cumulative"])
def test_all_that_a_cell_says_is_computed_again(results: Path, column: str) -> None:
    cell = load_results(results).cells[0]
    there = cell.column(column)

    def change(table: pa.Table) -> pa.Table:
        if column != "label":
            return set_column(column, there * 0 + (1 if there.dtype.kind == "f" else 2))(table)
        table = set_column("label", cell.column("prediction").astype(there.dtype))(table)
        return set_column("correct", np.ones(len(there), dtype=bool))(table)

    forged(cell, change)
    assert any(what == "rerun" for what, _ in wrong(checked(results, rerun=3)))


def test_a_network_that_says_it_has_no_dynamics_is_found_when_it_is_computed_again(results: Path) -> None:
    cell = load_results(results).cells[0]
    model = {**cell.provenance["model"], "has_dynamics": False}
    forged(cell, lambda table: table, model=model)
    assert any("has_dynamics" in why for what, why in wrong(checked(results, rerun=3)) if what == "rerun")


def test_columns_of_the_key_are_the_keys(results: Path) -> None:
    cell = load_results(results).cells[0]
    metadata = pq.ParquetFile(cell.path).metadata.metadata
    table = pq.read_table(cell.path)
    table = set_column("model", ["pvgg16"] * len(table))(table)
    with pq.ParquetWriter(cell.path, table.schema.remove_metadata(), store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({name: metadata[name] for name in (b"pcbench", b"pcbench-seal")})
    assert ("records", f"{cell.path.name}: column 'model' is not what the key says") in wrong(checked(results))


def test_code_that_run_json_names_is_not_run(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_network.py").write_text("import pathlib; pathlib.Path('ran').touch()\ndef net(): return None\n")
    monkeypatch.chdir(tmp_path)
    path = results / "run.json"
    whole = path.read_text()
    for text in (
        whole.replace("tiny_models:tiny", "evil_network:net"),
        whole.replace('"kind": "noise"', '"kind": "evil_network:net"'),
    ):
        assert text != whole
        path.write_text(text)
        findings = checked(results, rerun=1)
        assert any("evil_network:net is code that a file names" in finding.why for finding in findings)
        assert not (tmp_path / "ran").exists()


def test_missing_cells_and_tables_without_cells_are_found(results: Path) -> None:
    cells = load_results(results).cells
    cells[0].path.unlink()
    assert any("asks for it: not there" in why for _, why in wrong(checked(results)))
    for cell in cells[1:]:
        cell.path.unlink()
    assert "accuracy.csv" in {what for what, _ in wrong(checked(results))}


def test_a_table_whose_head_has_moved_is_found(results: Path) -> None:
    head, *rows = (results / "accuracy.csv").read_text().splitlines()
    (results / "accuracy.csv").write_text("\n".join([*rows, head]) + "\n")
    assert "accuracy.csv" in {what for what, _ in wrong(checked(results))}
