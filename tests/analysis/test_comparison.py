import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import Model, imagenet_c, make_run, standard_models

from pcbench.analysis.runs import check_comparable, compare, open_runs
from pcbench.errors import UserError
from pcbench.figures.run import run_figures
from pcbench.report.tables import perturbations_grid
from pcbench.results.load import load_results


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "a", standard_models(2), {"imagenet-c": imagenet_c()}, n=60)


def _plain(directory: Path) -> list[dict[str, object]]:
    return [row for path in directory.glob("records/*.parquet") for row in pd.read_parquet(path).to_dict("records")]


def _accuracy(rows: list[dict[str, object]], **wanted: object) -> float:
    hits = [row["correct"] for row in rows if all(row[key] == value for key, value in wanted.items())]
    return sum(map(bool, hits)) / len(hits)


def test_every_number_of_the_table_is_the_one_counted_by_hand(directory: Path) -> None:
    from pcbench.analysis.alexnet import BENCHMARK, ERRORS

    rows = _plain(directory)
    question = compare(open_runs([directory])[0])[0]
    means: dict[tuple[str, int], float] = {}
    for line in perturbations_grid(question).rows:
        cells = [cell.text for cell in line]
        for t, text in enumerate(cells[2:]):
            name = cells[0]
            if name == "mean":
                expected = sum(means[other, t] for other in BENCHMARK) / 15
            elif name.startswith("mCE"):
                expected = sum((100 - means[c, t]) / sum(ERRORS[c]) * 5 for c in BENCHMARK) / 15
            else:
                expected = 100 * _accuracy(rows, model="dynamic", perturbation=name, timestep=t)
                means[name, t] = expected
            assert float(text) == pytest.approx(expected, abs=0.0501), (name, t)
    assert len(means) == 45


def test_every_number_of_the_figure_is_the_one_counted_by_hand(directory: Path, tmp_path: Path) -> None:
    run_figures(load_results(directory), tmp_path)
    rows = _plain(directory)
    shown = pd.read_csv(tmp_path / "imagenet-c-dynamic.csv")
    assert len(shown) == 15 * 5 * 3
    for point in shown.to_dict("records"):
        where = {"perturbation": point["perturbation"], "severity": point["severity"]}
        p = _accuracy(rows, model="dynamic", timestep=point["timestep"], **where)
        z, n = 1.959964, 60
        middle, half = (
            (p + z * z / 2 / n) / (1 + z * z / n),
            z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n),
        )
        assert point["accuracy"] == pytest.approx(100 * p, abs=1e-3)
        assert point["ci_low"] == pytest.approx(100 * (middle - half), abs=1e-3)
        assert point["ci_high"] == pytest.approx(100 * (middle + half), abs=1e-3)
        assert point["baseline"] == pytest.approx(100 * _accuracy(rows, model="static", timestep=0, **where), abs=1e-3)


def test_known_effects_are_found(directory: Path) -> None:
    question = compare(open_runs([directory])[0])[0]
    assert question.difference(2, "fog").points == pytest.approx(6, abs=2.5)
    assert question.difference(2, "fog").significant
    assert question.difference(2, "zoom_blur").points < 0
    assert question.difference(2).verdict("at t = 2").startswith("better at t = 2 by")


def test_no_effect_is_not_found(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [Model("flat", 2)], {"imagenet-c": imagenet_c(["fog"])}, n=50)
    question = compare(open_runs([run])[0])[0]
    assert not question.table["significant"].any()
    assert (question.table["difference"] == 0).all()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("seed", {"seed": 1, "fingerprint": "same"}),
        ("images", {"fingerprint": "other"}),
        ("source", {"arguments": {"options": {"jpeg85": True}}}),
        ("incomplete", {"status": "interrupted"}),
    ],
)
def test_runs_that_differ_are_refused_unless_told(tmp_path: Path, kind: str, change: dict[str, object]) -> None:
    suites = {"imagenet-c": imagenet_c(["fog"])}
    same = {"fingerprint": "same"}
    make_run(tmp_path / "a", [Model("one", 1)], suites, n=10, **same)
    make_run(tmp_path / "b", [Model("two", 1)], suites, n=10, **{**same, **change})
    runs, _ = open_runs([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(UserError, match=f"--despite {kind}"):
        check_comparable(runs)
    assert len(check_comparable(runs, [kind])) == 1


def test_a_missing_severity_is_named_where_mce_would_be(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [Model("one", 1)], {"imagenet-c": imagenet_c(severities=(1, 2, 3, 4))}, n=10)
    question = compare(open_runs([run])[0])[0]
    assert question.corruption_errors.empty
    assert any("severities 1, 2, 3, 4" in note for note in question.notes)


def test_intervals_hold_the_estimate(directory: Path) -> None:
    table = compare(open_runs([directory])[0])[1].table
    assert (table["diff_low"] <= table["difference"] + 1e-4).all()
    assert (table["difference"] <= table["diff_high"] + 1e-4).all()
    assert np.isfinite(table["accuracy"]).all()
