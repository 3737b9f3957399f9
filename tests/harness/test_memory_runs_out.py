"""Memory that runs out in the middle of anything: nothing of a batch is kept twice, nothing is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_run import EXACT, contents, sweep

from pcbench.errors import RunError
from pcbench.harness.evaluate import Evaluation, Judged
from pcbench.harness.examples import Examples
from pcbench.harness.memory import Growing
from pcbench.harness.run import RunResult

# Two cells that are evaluated side by side, against one pass over the clean images.
TOGETHER = """
name = "manifold"
version = 1
description = "distances from clean representations"
measure = "representations"

[[perturbations]]
kind = "noise"
sigma = [0.5, 2.0]
"""


@pytest.fixture
def disturbed(tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Compares runs in which something fails once with one in which nothing does."""
    manifold = tmp_path / "manifold.toml"
    manifold.write_text(TOGETHER)
    undisturbed: dict[str, RunResult] = {}

    def compare(measure: str, holder: type, name: str, at: int, late: bool = False) -> None:
        arguments = {"suite": str(manifold) if measure == "representations" else suite, "model": "tiny_models:told"}
        if measure not in undisturbed:
            undisturbed[measure] = sweep(tmp_path / f"undisturbed-{measure}", **arguments)
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, fails_once(getattr(holder, name), at, late=late))
            found = sweep(tmp_path / f"{measure}-{name}-{at}-{late}", **arguments)
        alike(found, undisturbed[measure])

    return compare


def fails_once(work: Callable[..., Any], at: int, *, late: bool = False) -> Callable[..., Any]:
    """The same work, but the call of that number, counted from 0, finds no memory: before anything, or after all."""
    calls = iter(range(10**9))

    def wrapped(*arguments: Any, **more: Any) -> Any:
        fails = next(calls) == at
        if fails and not late:
            raise MemoryError
        result = work(*arguments, **more)
        if fails:
            raise MemoryError
        return result

    return wrapped


def alike(found: RunResult, undisturbed: RunResult) -> None:
    """Another size of batch may round otherwise; what was answered, and how often, is the same."""
    assert set(found.accuracy["n"]) == {20}
    pd.testing.assert_frame_equal(found.accuracy, undisturbed.accuracy)
    assert not found.records.duplicated(["image", "timestep", "perturbation", "severity"]).any()
    pd.testing.assert_frame_equal(found.records[EXACT], undisturbed.records[EXACT])
    pd.testing.assert_frame_equal(found.records, undisturbed.records, rtol=1e-4, atol=1e-5)


def test_cells_side_by_side_keep_nothing_twice_wherever_memory_runs_out(disturbed: Callable[..., None]) -> None:
    """The measure keeps seven columns of each cell and batch: calls 0-6 are the first cell's, 7-13 the second's."""
    for at in (0, 6, 7, 13, 14, 40):
        disturbed("representations", Growing, "append", at)
    for at in (6, 13):
        disturbed("representations", Growing, "append", at, late=True)


def test_the_second_cell_of_a_group_takes_the_first_back(disturbed: Callable[..., None]) -> None:
    for place in ("perturb", "compare", "judged", "keep"):
        for at in (0, 1):
            disturbed("representations", Evaluation, place, at)
    disturbed("representations", Evaluation, "keep", 1, late=True)
    disturbed("representations", Evaluation, "keep", 3, late=True)


def test_a_cell_keeps_all_of_a_batch_or_nothing(disturbed: Callable[..., None]) -> None:
    for at in (0, 2, 4, 9):
        disturbed("predictions", Growing, "append", at)
    disturbed("predictions", Growing, "append", 2, late=True)
    disturbed("predictions", Growing, "append", 4, late=True)


def test_a_picture_that_finds_no_memory_leaves_no_batch_behind(disturbed: Callable[..., None]) -> None:
    """The pictures that a cell keeps are made besides its columns."""
    for at in (0, 1, 2):
        disturbed("predictions", Examples, "see", at)
        disturbed("representations", Examples, "see", at)
    disturbed("representations", Examples, "see", 1, late=True)


def test_no_memory_for_one_image_leaves_the_batches_before_as_they_were(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted cell is not written; the run that goes on computes it from its first image."""
    undisturbed = sweep(tmp_path / "undisturbed", suite)
    keep = Evaluation.keep

    def never(self: Evaluation, part: Judged, seconds: float) -> None:
        if self.images >= 7 and self.cell.condition.perturbation == "contrast":
            raise MemoryError
        keep(self, part, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "keep", never)
        with pytest.raises(RunError, match="no memory for a single image"):
            sweep(tmp_path / "run", suite)
    assert not [name for name in contents(tmp_path / "run") if "contrast" in name]
    alike(sweep(tmp_path / "run", suite), undisturbed)
