from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import Model, imagenet_c, make_run

import pcbench
from pcbench.analysis import metrics
from pcbench.analysis.alexnet import BENCHMARK, ERRORS
from pcbench.analysis.answers import answers
from pcbench.errors import UserError
from pcbench.results.study import Study, load_results

# What was published of ResNet-50: mean top-1 accuracy over severities, and CE, in percent.
RESNET50 = {
    "brightness": (68.02, 56.64),
    "contrast": (39.06, 71.43),
    "defocus_blur": (38.75, 74.71),
    "elastic_transform": (45.25, 84.75),
    "fog": (45.83, 66.11),
    "frost": (38.14, 74.84),
    "gaussian_noise": (29.29, 79.77),
    "glass_blur": (26.79, 88.61),
    "impulse_noise": (23.81, 82.58),
}
# Of the others the paper's rounded CEs are known.
ROUNDED = {"shot_noise": 82, "motion_blur": 78, "zoom_blur": 80, "snow": 78, "pixelate": 77, "jpeg_compression": 77}


def test_published_accuracies_give_the_published_corruption_errors() -> None:
    found = metrics.corruption_errors({name: [1 - accuracy / 100] * 5 for name, (accuracy, _) in RESNET50.items()})
    for name, (_, ce) in RESNET50.items():
        assert found[name] == pytest.approx(ce, abs=0.02), name


def test_the_published_table_of_resnet50_gives_its_published_mce() -> None:
    errors = {name: [1 - accuracy / 100] * 5 for name, (accuracy, _) in RESNET50.items()}
    errors |= {name: [ce / 100 * np.mean(ERRORS[name])] * 5 for name, ce in ROUNDED.items()}
    assert metrics.mce(errors) == pytest.approx(76.7, abs=0.2)  # six of its CEs are known to the percent only


def test_metrics_are_imported_by_their_public_name() -> None:
    from pcbench.metrics import mce

    assert mce is pcbench.metrics.mce is metrics.mce
    assert mce(ERRORS) == 100


@pytest.mark.parametrize("name", BENCHMARK)
def test_mce_refuses_a_missing_corruption_or_severity(name: str) -> None:
    with pytest.raises(UserError, match=name):
        metrics.mce({other: values for other, values in ERRORS.items() if other != name})
    with pytest.raises(UserError, match="4 error rates"):
        metrics.mce({**ERRORS, name: ERRORS[name][:4]})


def test_mce_refuses_percent() -> None:
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        metrics.mce({**ERRORS, "fog": [50.0] * 5})


def test_error_rates_refuse_a_missing_severity() -> None:
    table = pd.DataFrame({"perturbation": "fog", "severity": [1, 2, 4, 5], "timestep": 0, "accuracy": 0.5})
    with pytest.raises(UserError, match="fog has severities 1, 2, 4, 5"):
        metrics.error_rates(table, 0)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    model = Model("m", 3, gain=lambda perturbation, t: 0.05 * t)
    return load_results(make_run(tmp_path / "a", [model], {"s": imagenet_c(["fog"])}, n=30))


def test_dynamics_are_what_a_loop_over_images_finds(study: Study) -> None:
    records = study.records
    found = metrics.dynamics(answers(study)).set_index("severity").loc[3.0]
    part = records[records["severity"] == 3]
    tracks = [track.sort_values("timestep")["correct"].tolist() for _, track in part.groupby("image")]
    assert found["oracle"] == pytest.approx(sum(any(t) for t in tracks) / 30)
    assert found["gained"] == pytest.approx(sum(t[-1] and not t[0] for t in tracks) / 30)
    assert found["lost"] == pytest.approx(sum(t[0] and not t[-1] for t in tracks) / 30)
    assert found["first_correct"] == pytest.approx(np.mean([t.index(True) for t in tracks if any(t)]))
    curve = [np.mean([t[k] for t in tracks]) for k in range(4)]
    assert found["area"] == pytest.approx((curve[0] / 2 + curve[1] + curve[2] + curve[3] / 2) / 3)


def test_readouts_are_what_a_loop_over_images_finds(study: Study) -> None:
    records = study.records
    found = metrics.readouts(study, threshold=0.8)
    part = records[records["severity"] == 2]
    hits: dict[str, list[bool]] = {"last": [], "cumulative": [], "max-confidence": [], "threshold": []}
    for _, track in part.groupby("image"):
        rows = track.sort_values("timestep").to_dict("records")
        surest = max(rows, key=lambda row: (row["confidence"], -row["timestep"]))
        hits["last"].append(rows[-1]["correct"])
        hits["cumulative"].append(rows[-1]["prediction_cumulative"] == rows[-1]["label"])
        hits["max-confidence"].append(surest["correct"])
        hits["threshold"].append(next((row for row in rows if row["confidence"] >= 0.8), surest)["correct"])
    for name, values in hits.items():
        row = found[(found["severity"] == 2) & (found["readout"] == name)].iloc[0]
        assert row["accuracy"] == pytest.approx(np.mean(values)), name
