import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import Model, imagenet_c, make_run, standard_models

from pcbench.analysis.compare import compare
from pcbench.errors import UserError
from pcbench.figures.run import study_figures
from pcbench.report.tables import perturbations_grid
from pcbench.results.study import load_results


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(
        tmp_path_factory.mktemp("runs") / "a", standard_models(2, classes=1000), {"imagenet-c": imagenet_c()}, n=60
    )


def _plain(directory: Path) -> list[dict[str, object]]:
    """The records as a reader without pcbench finds them."""
    return [row for path in directory.glob("records/*.parquet") for row in pd.read_parquet(path).to_dict("records")]


def _accuracy(rows: list[dict[str, object]], **wanted: object) -> float:
    hits = [row["correct"] for row in rows if all(row[key] == value for key, value in wanted.items())]
    return sum(map(bool, hits)) / len(hits)


def test_every_number_of_the_table_is_the_one_counted_by_hand(directory: Path) -> None:
    from pcbench.analysis.alexnet import BENCHMARK, ERRORS

    rows = _plain(directory)
    question = compare(directory).questions[0]
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
    study_figures(load_results(directory), tmp_path)
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
    question = compare(directory).questions[0]
    assert question.at(2, "fog").difference.value == pytest.approx(0.06, abs=0.025)
    assert question.at(2, "fog").words == "better"
    assert question.at(2, "zoom_blur").difference.value < 0
    assert question.at(2).sentence(where="at t = 2").startswith("better at t = 2 by")


def test_no_effect_is_not_found(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [Model("flat", 2)], {"imagenet-c": imagenet_c(["fog"])}, n=50)
    question = compare(run).questions[0]
    assert not question.table["significant"].any()
    assert (question.table["difference"] == 0).all()


@pytest.mark.parametrize(
    ("kind", "change"),
    [("seed", {"seed": 1}), ("images", {"fingerprint": "other"}), ("dtype", {"dtype": "bfloat16"})],
)
def test_systems_that_differ_are_compared_apart_unless_told(
    tmp_path: Path, kind: str, change: dict[str, object]
) -> None:
    suites = {"imagenet-c": imagenet_c(["fog"])}
    same = {"fingerprint": "same"}
    make_run(tmp_path / "a", standard_models(1), suites, n=10, **same)  # type: ignore[arg-type]
    make_run(tmp_path / "b", standard_models(1), suites, n=10, **{**same, **change})  # type: ignore[arg-type]
    study = load_results(tmp_path / "a", tmp_path / "b")
    apart = compare(study)
    questions, notes = apart.questions, apart.notes
    assert len([note for note in notes if f"different {kind} are compared apart" in note]) == 1
    assert len(questions) == 4  # each network against its own start and its own baseline
    for question in questions:
        mark = question.system.partition("[")[2]
        assert question.against.partition("[")[2].partition("]")[0] == mark.partition("]")[0]
    together = compare(study, despite=[kind])
    assert any(f"different {kind} are compared:" in note for note in together.notes)
    assert len(together.questions) == 4


def test_an_unfinished_request_is_refused_unless_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", standard_models(1), {"imagenet-c": imagenet_c(["fog"])}, n=10, leave_out=1)
    with pytest.raises(UserError, match=r"unfinished \(1 of 10 cells missing\).*--despite incomplete"):
        compare(load_results(run))
    assert compare(load_results(run), despite=["incomplete"]).questions


def test_each_network_is_compared_with_the_baseline_of_its_own_weights(tmp_path: Path) -> None:
    """Two sets of weights, each with its baseline: the one must not be set beside the other's."""
    suites = {"noise": [("gaussian-noise", "noise", 1.0)]}
    good, bad = standard_models(1, "wa"), standard_models(1, "wb")
    for model in bad:
        model.level = 0.5
    make_run(tmp_path / "a", good, suites, n=40)
    make_run(tmp_path / "b", bad, suites, n=40)
    questions = compare(tmp_path / "a", tmp_path / "b").questions
    pairs = {(question.system, question.against) for question in questions}
    assert ("dynamic [wb]", "static [wb]") in pairs
    assert ("dynamic [wa]", "static [wa]") in pairs
    assert not any(one[-4:] != two.replace(" at t = 0", "")[-4:] for one, two in pairs)
    own = next(q for q in questions if (q.system, q.against) == ("dynamic [wb]", "static [wb]"))
    assert (own.table.loc[own.table["timestep"] == 0, "difference"] == 0).all()


def test_full_dynamics_are_compared_with_an_ablation_without_a_word(tmp_path: Path) -> None:
    suites = {"noise": [("gaussian-noise", "noise", 1.0)]}
    make_run(tmp_path / "a", [Model("net", 2)], suites)
    make_run(tmp_path / "b", [Model("net?dynamics=no-error", 2)], suites)
    assert compare(tmp_path, baseline="net").notes == []


def test_clean_images_are_no_part_of_a_mean_over_perturbations(tmp_path: Path) -> None:
    suite = [("clean", "clean", 0.0), ("fog", "weather", 3.0), ("snow", "weather", 3.0)]
    run = make_run(tmp_path / "a", standard_models(1), {"mine": suite}, n=50)
    table = compare(run).questions[0].table
    at = table[table["timestep"] == 1].set_index(["level", "perturbation"])["accuracy"]
    expected = (at["perturbation", "fog"] + at["perturbation", "snow"]) / 2
    assert at["overall", "all"] == pytest.approx(expected, abs=1e-9)


def test_mce_against_alexnet_is_for_imagenet_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", standard_models(1, classes=10), {"imagenet-c": imagenet_c()}, n=60)
    question = compare(run).questions[0]
    assert "mCE" not in set(question.corruption_errors["measure"])
    assert any("no mCE against AlexNet" in note for note in question.notes)


def test_ratios_and_differences_test_the_same_timesteps(directory: Path) -> None:
    for question in compare(directory).questions:
        tested = question.table[question.table["level"] == "overall"].set_index("timestep")["p"].notna()
        errors = question.corruption_errors
        ratios = errors[errors["measure"] == "ratio of means"].set_index("timestep")["p"].notna()
        assert tested.tolist() == ratios.tolist() == [False, True, True]


def test_a_missing_severity_is_named_where_mce_would_be(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [Model("one", 1)], {"imagenet-c": imagenet_c(severities=(1, 2, 3, 4))}, n=10)
    question = compare(run).questions[0]
    assert question.corruption_errors.empty
    assert any("severities 1, 2, 3, 4" in note for note in question.notes)


def test_intervals_hold_the_estimate(directory: Path) -> None:
    table = compare(directory).questions[1].table
    assert (table["diff_low"] <= table["difference"] + 1e-4).all()
    assert (table["difference"] <= table["diff_high"] + 1e-4).all()
    assert np.isfinite(table["accuracy"]).all()
