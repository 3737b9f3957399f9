"""How predictors compute is chosen once for a run, recorded in every cell, and decides rounding alone."""

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny_models
import torch
from clusters import OF_TWO
from test_run import EXACT, contents, sweep
from torch import Tensor, nn

import pcbench
from pcbench.config import RunConfig
from pcbench.errors import Notice, UserError
from pcbench.harness.run import RunResult
from pcbench.models.predictive import spectrum
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.network import PredictiveNet
from pcbench.models.predictive.spectral import DIRECT
from pcbench.results.directory import read_cells
from pcbench.results.requests import read_requests


class Wide(nn.Module):
    """Wide enough for spectra to pay."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(32, 1000)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.two(self.one(x)).mean((2, 3)))
        return logits


def network(predictor: str = "ConvTranspose2d(32, 16, kernel_size=14, stride=2, padding=6)") -> PredictiveNet:
    torch.manual_seed(0)
    config = {
        "input_size": [3, 32, 32],
        "gradient_scaling": True,
        "pcoders": [{"module": "one"}, {"module": "two", "predictor": predictor}],
    }
    return pcbench.predify(Wide().eval(), config).requires_grad_(False)


class OfImageNet(PredictiveClassifier):
    label_space = "imagenet"


def wide() -> PredictiveClassifier:
    return OfImageNet(network(), 1000, tiny_models.PREPROCESSING, 2)


def assert_same_answers(one: RunResult, other: RunResult) -> None:
    pd.testing.assert_frame_equal(one.records[EXACT], other.records[EXACT])
    pd.testing.assert_frame_equal(one.records, other.records, rtol=1e-4, atol=1e-5)


def predictors(result: RunResult) -> dict[str, object]:
    """What every cell says; they agree, and the request with them."""
    cells = read_cells(result.directory, lambda line: pytest.fail(line))
    (said,) = {json.dumps(cell.provenance["compute"]["predictors"]) for cell in cells}
    found: dict[str, object] = json.loads(said)
    assert read_requests(result.directory).requests[0].compute["predictors"] == found
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_gives_the_same_predictions_by_either_route(tmp_path: Path, suite: str, dtype: str) -> None:
    direct = sweep(tmp_path / "direct", suite, "test_predictors_option:wide", dtype=dtype)
    assert predictors(direct)["mode"] == "direct"
    fft = sweep(tmp_path / "fft", suite, "test_predictors_option:wide", dtype=dtype, predictors="fft")
    (record,) = predictors(fft)["networks"].values()  # type: ignore[attr-defined]
    taken = [entry["direction"] for entry in record["choices"] if entry["tiles"] is not None]
    assert taken == (["forward", "pullback"] if dtype == "float32" else ["forward"])
    assert contents(direct.directory).keys() == contents(fft.directory).keys()  # the keys of cells do not know of it
    assert contents(direct.directory) != contents(fft.directory), "spectra round otherwise, so they were not computed"
    assert_same_answers(direct, fft)
    models = [result.study.cells[0].provenance["model"] for result in (direct, fft)]
    assert models[0]["gmacs"] == models[1]["gmacs"]  # those of the direct form, whatever computes


def test_a_user_s_network_is_left_as_it_was(tmp_path: Path, suite: str) -> None:
    model = wide()
    sweep(tmp_path / "run", suite, model, predictors="fft")  # type: ignore[arg-type]
    assert {pcoder.route for pcoder in model.network.pcoders} == {DIRECT}


def test_an_engine_that_does_not_work_is_replaced_and_the_record_says_so(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        def __init__(self, spectrum: Tensor, rows: int) -> None:
            raise AttributeError("no such operator\nlong story")

    monkeypatch.setattr(spectrum, "_Packed", Gone)
    spectrum.packed_fault.cache_clear()
    try:
        with pytest.warns(Notice, match="computed by torch.bmm, since .* fails: no such operator$"):
            result = sweep(tmp_path / "run", suite, "test_predictors_option:wide", predictors="fft")
    finally:
        spectrum.packed_fault.cache_clear()
    (record,) = predictors(result)["networks"].values()  # type: ignore[attr-defined]
    assert {entry["tiles"]["engine"] for entry in record["choices"] if entry["tiles"]} == {"batched"}
    assert "no such operator" in record["fallback"]


def test_networks_without_large_predictors_are_told(tmp_path: Path, suite: str) -> None:
    with pytest.warns(Notice, match="--predictors fft: no predictor is large enough"):
        sweep(tmp_path / "run", suite, "tiny_models:tiny", predictors="fft")


def test_what_is_compiled_has_no_routes() -> None:
    with pytest.raises(UserError, match="--compile and --predictors fft"):
        RunConfig.of(model="m", suite="s", compile=True, predictors="fft")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_two")
def test_ray_workers_take_the_recorded_routes(tmp_path: Path, suite: str) -> None:
    local = sweep(tmp_path / "local", suite, "test_predictors_option:wide", predictors="fft")
    ray = sweep(tmp_path / "ray", suite, "test_predictors_option:wide", predictors="fft", **OF_TWO, workers=1)
    assert contents(local.directory) == contents(ray.directory)
    assert predictors(local) == predictors(ray)
