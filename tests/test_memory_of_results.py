"""Memory does not grow with the number of conditions: cells are written and read one at a time."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

IMAGES, STEPS = 4_000, 6


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    place = Path(__file__).parents[1] / "benchmarks" / "memory.py"
    spec = importlib.util.spec_from_file_location("memory_of_results", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process's peak")
def test_peak_memory_does_not_grow_with_the_number_of_conditions(tmp_path: Path, benchmark: ModuleType) -> None:
    """What may grow is what a question is asked of: a byte for each image, condition and timestep, in a few copies.

    A data frame of the same rows takes 54 bytes a row with the columns of the records, and a mean over images in double
    precision takes 16 or 24.
    """
    peaks: list[dict[str, int]] = []
    for conditions in (15, 60):
        found = benchmark.measured(tmp_path / str(conditions), IMAGES, conditions, STEPS)
        peaks.append({stage: size for stage, size, _ in found})
    few, many = peaks
    rows = (60 - 15) * IMAGES * (STEPS + 2)
    grown = {stage: (many[stage] - few[stage]) / rows for stage in few}
    assert all(size < 32 for size in grown.values()), f"bytes a row: {grown}"
    assert grown["write"] < 8, f"cells are written one at a time: {grown}"
