"""Results directories of others: run.json, and files of cells, through every verb that reads them."""

import json
from pathlib import Path

import pytest
from mutations import survive
from synthetic import Model, make_run

from pcbench.analysis.derived import tables
from pcbench.errors import UserError
from pcbench.harness.verify import verify
from pcbench.results.cell import read_cell
from pcbench.results.directory import Directory
from pcbench.results.merge import merge
from pcbench.results.study import ACCURACY_COLUMNS, load_results

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]


@pytest.fixture
def directory(folder: Path) -> Path:
    return make_run(folder / "run", [Model("m", 1)], {"s": [("clean", "clean", 0.0)]}, n=2)


def printable(problems: list[str]) -> None:
    assert all(line.isprintable() for line in problems), problems


def test_run_json(directory: Path) -> None:
    """It is read, and what is asked of it says how far it is."""
    path = directory / "run.json"

    def load(content: bytes) -> None:
        path.write_bytes(content)
        study = load_results(directory)
        printable(study.problems)
        assert set(study.accuracy) <= set(ACCURACY_COLUMNS)
        assert study.missing >= 0
        for placed in study.requests:
            assert study.status_of(placed)
        if study.problems:
            raise UserError(study.problems[0])

    survive(load, [path.read_bytes()])


def test_run_json_of_a_run_that_goes_on(directory: Path) -> None:
    path = directory / "run.json"
    kept = path.read_bytes()
    request = load_results(directory).requests[0].request

    def resume(content: bytes) -> None:
        path.write_bytes(content)
        with Directory(directory) as target:
            target.record(request, lambda one: None)
            assert target.requests().find(request.digest) is not None

    survive(resume, [kept])


def test_run_json_that_is_verified(directory: Path) -> None:
    path = directory / "run.json"
    info = json.loads(path.read_bytes())
    info["requests"][0]["asked"] = {"model": ["no-such-network"], "suite": ["clean"]}  # nothing is loaded
    small = json.dumps(info).encode()

    def check(content: bytes) -> None:
        path.write_bytes(content)
        found = list(verify(directory))
        assert found
        wrong = [finding.why for finding in found if finding.verdict == "differs"]
        if wrong:  # damage is a finding, not an end of the check
            raise UserError(wrong[0])

    survive(check, [small])


def test_run_json_that_is_merged(directory: Path, folder: Path) -> None:
    path = directory / "run.json"

    def together(content: bytes) -> None:
        path.write_bytes(content)
        with Directory(folder / "together") as target:
            _, problems = merge([directory], target)
        printable(problems)
        assert {entry.name for entry in folder.iterdir()} == {"run", "together"}
        if problems:  # damage is told of, and what is whole is copied
            raise UserError(problems[0])

    survive(together, [path.read_bytes()])


def test_cells(directory: Path) -> None:
    """What is changed in a file of records is noticed, or changes no number."""
    path = next((directory / "records").iterdir())
    whole = path.read_bytes()
    clean = load_results(directory).accuracy
    told: list[str] = []

    def load(content: bytes) -> None:
        path.write_bytes(content)
        study = load_results(directory)
        accuracy = study.accuracy
        printable(study.problems)
        if study.problems:
            told[:] = study.problems
            raise UserError(study.problems[0])
        cell = study.cells[0]
        if cell.verify():
            raise UserError(cell.verify())
        assert accuracy.equals(clean)
        tables(study)
        study.records  # noqa: B018 - every column is read

    # pyarrow believes the size of a page, which stands nowhere else
    survive(load, [whole], modest=False)
    assert told


def test_the_key_in_a_cell(directory: Path) -> None:
    """Metadata that were sealed again after they were changed: only the file's name and the rows hold them."""
    import hashlib

    import pyarrow as pa
    import pyarrow.parquet as pq

    path = next((directory / "records").iterdir())
    table = pq.read_table(path)
    meta = pq.read_metadata(path).metadata[b"pcbench"]

    def load(content: bytes) -> None:
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, table.schema, store_schema=False) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(
                {b"pcbench": content, b"pcbench-seal": hashlib.sha256(content).hexdigest().encode()}
            )
        path.write_bytes(sink.getvalue().to_pybytes())
        cell = read_cell(path)
        assert cell.key.data.n == 2
        study = load_results(directory)
        tables(study)
        printable(study.problems)

    survive(load, [meta])
