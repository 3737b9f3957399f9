"""Run directories of others: run.json, records, and the tables beside them."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mutations import survive
from pcbench.results.load import load_results
from pcbench.results.schema import ACCURACY_COLUMNS
from pcbench.results.shards import merge
from pcbench.results.store import RunStore, parquet, read_info
from synthetic import Model, make_run

from pcbench.analysis.speed import costs
from pcbench.errors import UserError
from pcbench.report.page import extra_tables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]

Reading = Callable[[str, Callable[[Path], object]], Callable[[bytes], object]]


@pytest.fixture
def directory(folder: Path) -> Path:
    return make_run(folder / "run", [Model("m", 1)], {"s": [("clean", "clean", 0.0)]}, n=2)


def test_run_json(directory: Path) -> None:
    """It is read, and what it names is loaded as far as it can be."""
    path = directory / "run.json"
    valid = path.read_bytes()

    def load(content: bytes) -> None:
        path.write_bytes(content)
        results = load_results(directory)
        assert list(results.accuracy) == ACCURACY_COLUMNS
        for run in results.runs:
            assert run.missing >= 0
            costs(run)

    small = json.dumps({**json.loads(valid), "packages": {}, "schema_version": 1}).encode()
    survive(load, [valid, small])


def test_run_json_of_a_run_that_goes_on(directory: Path) -> None:
    info = read_info(directory)
    path = directory / "run.json"
    kept = path.read_bytes()

    def resume(content: bytes) -> None:
        path.write_bytes(content)
        with RunStore(directory) as store:
            store.open(info)
            assert set(store.info.cells) <= set(info.cells) or content != kept

    survive(resume, [kept])


def test_run_json_of_a_shard(folder: Path) -> None:
    shard = make_run(folder / "parts" / "shard-1-of-1", [Model("m", 0)], {"s": [("clean", "clean", 0.0)]}, n=2)
    info = json.loads((shard / "run.json").read_bytes())
    seed = json.dumps({**info, "shard": "1/1", "plan": list(info["cells"]), "packages": {}}).encode()

    def together(content: bytes) -> None:
        (shard / "run.json").write_bytes(content)
        merge(folder / "parts")

    survive(together, [seed])


def test_records(directory: Path) -> None:
    """Records whose checksum in run.json is right, so that nothing but their form is wrong."""
    info = json.loads((directory / "run.json").read_text())
    cell = next(iter(info["cells"].values()))
    path = directory / cell["file"]
    frame = pd.read_parquet(path)
    told: list[str] = []

    def load(content: bytes) -> None:
        path.write_bytes(content)
        cell["sha256"] = hashlib.sha256(content).hexdigest()
        (directory / "run.json").write_text(json.dumps(info))
        results = load_results(directory)
        accuracy = results.accuracy
        problems = results.runs[0].problems
        assert all(line.isprintable() for line in problems), problems
        if problems:
            told[:] = problems
            raise UserError(problems[0])
        assert all(math.isfinite(value) and 0 <= value <= 1 for value in accuracy["accuracy"])
        assert len(results.records) == len(accuracy) * 2 or content not in seeds

    seeds = [parquet(frame), path.read_bytes()]
    # pyarrow believes the size of a page, which stands nowhere else; what a run names has the checksum of its writer
    survive(load, seeds, modest=False)
    assert told


def test_tables_beside_the_records(directory: Path) -> None:
    run = load_results(directory).runs[0]

    def load(content: bytes) -> None:
        run.problems.clear()
        (directory / "cost.csv").write_bytes(content)
        if len(content) % 2:
            assert list(costs(run)) == ["model", "weights", "timestep", "gmacs", "gmacs_unrolled"]
        else:
            extra_tables(run, "run")
        if run.problems:
            raise UserError(run.problems[0])

    old = b"model,weights,timestep,gmacs\nm,synthetic,0,0.5\nm,synthetic,1,1e0\n"
    new = b"model,weights,timestep,gmacs,gmacs_unrolled\nm,synthetic,0,0.5,0.5\nm,synthetic,1,1e0,1.5\n"
    survive(load, [old, new])
