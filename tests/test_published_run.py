"""The numbers that the published run shows, counted again from its records."""

import csv
import math
from collections import Counter
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from pcbench.analysis.alexnet import BENCHMARK, ERRORS

RUN = Path(__file__).parents[1] / "results" / "imagenet-200"
MODEL, BASELINE, N = "pefficientnet-lite0", "efficientnet-lite0", 200
Key = tuple[str, str, float, int]


@pytest.fixture(scope="module")
def correct() -> Counter[Key]:
    """(model, corruption, severity, timestep) -> number of images that are right."""
    counted: Counter[Key] = Counter()
    rows = 0
    for path in RUN.glob("records/*.parquet"):
        table = parquet.read_table(path, columns=["model", "perturbation", "severity", "timestep", "correct"])
        for row in table.to_pylist():
            if row["perturbation"] not in BENCHMARK:
                continue
            counted[row["model"], row["perturbation"], row["severity"], row["timestep"]] += row["correct"]
            rows += 1
    assert rows == 75 * N * (5 + 1)
    return counted


def _percent(correct: Counter[Key], model: str, name: str, t: int) -> float:
    return sum(correct[model, name, float(severity), t] for severity in range(1, 6)) / (5 * N) * 100


def test_every_number_of_the_table(correct: Counter[Key]) -> None:
    lines = (RUN / "comparison" / "comparison.md").read_text().splitlines()
    start = lines.index(f"**imagenet-c: {MODEL} against {MODEL} at t = 0**") + 4
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : start + 17]]
    assert [row[0] for row in rows] == [*BENCHMARK, "mean", "mCE (AlexNet 100)"]
    for name, *shown in rows:
        for t, text in zip([0, 0, 1, 2, 3, 4], shown, strict=True):
            if name in BENCHMARK:
                expected = _percent(correct, MODEL, name, t)
            else:
                each = {c: _percent(correct, MODEL, c, t) for c in BENCHMARK}
                ces = [(100 - each[c]) / (sum(ERRORS[c]) / 5) for c in BENCHMARK]
                expected = sum(each.values()) / 15 if name == "mean" else sum(ces) / 15
            assert float(text.strip("*()")) == pytest.approx(expected, abs=0.0501), (name, t)


def test_every_number_of_the_figure(correct: Counter[Key]) -> None:
    with (RUN / "figures" / f"imagenet-c-{MODEL}.csv").open() as file:
        points = list(csv.DictReader(file))
    assert len(points) == 15 * 5 * 5
    for point in points:
        name, severity, t = point["perturbation"], float(point["severity"]), int(point["timestep"])
        p, z = correct[MODEL, name, severity, t] / N, 1.959964
        middle = (p + z * z / 2 / N) / (1 + z * z / N)
        half = z / (1 + z * z / N) * math.sqrt(p * (1 - p) / N + z * z / 4 / N / N)
        shown = [float(point[column]) for column in ("accuracy", "ci_low", "ci_high", "baseline", "n")]
        baseline = correct[BASELINE, name, severity, 0] / N
        expected = [100 * p, 100 * (middle - half), 100 * (middle + half), 100 * baseline, N]
        assert shown == pytest.approx(expected, abs=1e-3), point


def test_every_ratio_of_the_papers_figure(correct: Counter[Key]) -> None:
    with (RUN / "figures" / "predify2021" / "mce.csv").open() as file:
        points = list(csv.DictReader(file))
    error = [1 - sum(_percent(correct, MODEL, name, t) for name in BENCHMARK) / 1500 for t in range(5)]
    assert [float(point["ratio"]) for point in points] == pytest.approx([e / error[0] for e in error], rel=1e-5)
    for point in points[1:]:
        assert float(point["low"]) < float(point["ratio"]) < float(point["high"])
