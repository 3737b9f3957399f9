"""The sweep: what it records, and that nothing but the request decides it."""

import itertools
import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import tiny_models

from pcbench.errors import RunError, UserError
from pcbench.harness.pipeline import Pipeline
from pcbench.harness.progress import Progress
from pcbench.harness.run import RunResult, run
from pcbench.results.schema import ACCURACY_COLUMNS, RECORD_COLUMNS

EXACT = ["image", "label", "timestep", "prediction", "correct", "prediction_cumulative", "perturbation", "severity"]


def sweep(output: Path, suite: str, model: str | tuple[str, ...] = "tiny_models:tiny", **more: object) -> RunResult:
    return run(model, suite, "samples", output, **{"workers": 0, "figures": False, "batch_size": 7, **more})  # type: ignore[arg-type]


def same(one: RunResult, other: RunResult) -> None:
    assert (one.directory / "accuracy.csv").read_bytes() == (other.directory / "accuracy.csv").read_bytes()
    left, right = one.records, other.records
    pd.testing.assert_frame_equal(left[EXACT], right[EXACT])
    # a kernel may sum in another order for another batch size
    pd.testing.assert_frame_equal(left, right, rtol=1e-4, atol=1e-5)


def test_a_run_has_the_files_and_columns_of_the_contract(tmp_path: Path, suite: str) -> None:
    result = sweep(tmp_path / "run", suite, timesteps=3)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    accuracy = pd.read_csv(tmp_path / "run" / "accuracy.csv")
    assert info["status"] == "complete"
    assert list(accuracy) == ACCURACY_COLUMNS
    assert list(result.records)[: len(RECORD_COLUMNS)] == RECORD_COLUMNS
    assert len(result.records) == 7 * 20 * 4  # cells x images x timesteps
    assert sorted(accuracy["timestep"].unique()) == [0, 1, 2, 3]
    assert info["data"]["n"] == 20
    assert {"data", "perturbation", "model"} == set(next(iter(info["cells"].values()))["seconds"])
    assert len(list((tmp_path / "run" / "records").glob("*.parquet"))) == 7


def test_run_json_names_no_path_host_or_user(tmp_path: Path, suite: str) -> None:
    sweep(tmp_path / "run", suite)
    text = (tmp_path / "run" / "run.json").read_text()
    for secret in (str(tmp_path), os.uname().nodename, f"{Path.home()}/", str(Path.cwd())):
        assert secret not in text


def test_records_say_what_the_model_says(tmp_path: Path, suite: str) -> None:
    import numpy as np
    import torch

    from pcbench.data.geometry import Geometry
    from pcbench.data.registry import load_data

    records = sweep(tmp_path / "run", suite).records
    images, model = load_data("samples"), tiny_models.tiny()
    geometry = Geometry.of(model.preprocessing)
    rows = records[records["perturbation"] == "clean"].set_index(["image", "timestep"])
    for index, name in itertools.islice(enumerate(images.ids), 5):
        pixels = torch.from_numpy(np.array(geometry.prepare(images.read(index)))).permute(2, 0, 1)[None] / 255
        probabilities = model(pixels, timesteps=2).detach().softmax(-1)[:, 0]
        for t in range(3):
            row = rows.loc[(name, t)]
            label = images.labels[index]
            assert row["prediction"] == int(probabilities[t].argmax())
            assert row["confidence"] == pytest.approx(float(probabilities[t].max()), rel=1e-4)
            assert row["nll"] == pytest.approx(-float(probabilities[t, label].log()), rel=1e-4)
            assert row["prediction_cumulative"] == int(probabilities[: t + 1].sum(0).argmax())
            assert row["correct"] == (row["prediction"] == label)


def test_the_result_does_not_depend_on_batch_size_or_workers(tmp_path: Path, suite: str) -> None:
    reference = sweep(tmp_path / "reference", suite)
    same(sweep(tmp_path / "ones", suite, batch_size=1), reference)
    same(sweep(tmp_path / "all", suite, batch_size=64), reference)
    same(sweep(tmp_path / "workers", suite, workers=2), reference)


def test_models_of_one_run_get_the_results_that_they_get_alone(tmp_path: Path, suite: str) -> None:
    both = sweep(tmp_path / "both", suite, ("tiny_models:tiny", "tiny_models:still"))
    for name in ("tiny_models:tiny", "tiny_models:still"):
        alone = sweep(tmp_path / name[-4:], suite, name).records
        of_both = both.records[both.records["model"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_both[EXACT], alone[EXACT])
    feedforward = both.accuracy[both.accuracy["model"] == "tiny_models:still"]
    assert set(feedforward["timestep"]) == {0}


def test_one_pass_gives_all_timesteps(tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tiny_models.Tiny] = []

    def make() -> tiny_models.Tiny:
        made.append(tiny_models.Tiny())
        return made[-1]

    monkeypatch.setattr(tiny_models, "tiny", make)
    sweep(tmp_path / "run", suite, timesteps=5, batch_size=20)
    assert [call for call in made[-1].calls if call[0] == 20] == [(20, 5)] * 7  # others measure what a timestep costs


def test_a_smaller_limit_takes_some_of_the_images_of_a_larger_one(tmp_path: Path, suite: str) -> None:
    few = set(sweep(tmp_path / "few", suite, limit=5).records["image"])
    more = set(sweep(tmp_path / "more", suite, limit=9).records["image"])
    assert len(few) == 5
    assert len(more) == 9
    assert few < more


class Interrupt(Progress):
    """Presses Ctrl-C when some cells are finished."""

    def __init__(self, after: int) -> None:
        self.left = after

    def cell(self, finished: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 4, 6])
def test_an_interrupted_run_goes_on_and_ends_as_an_undisturbed_one(tmp_path: Path, suite: str, after: int) -> None:
    reference = sweep(tmp_path / "reference", suite)
    with pytest.raises(KeyboardInterrupt, match=rf"{after} of 7 cells .* go on with: pcbench run .*--output .*run$"):
        sweep(tmp_path / "run", suite, progress=Interrupt(after))
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (info["status"], len(info["cells"])) == ("interrupted", after)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "records").iterdir()}
    same(sweep(tmp_path / "run", suite, batch_size=3), reference)
    assert all(path.stat().st_mtime_ns == written for path, written in files.items()), "a finished cell was redone"


def test_a_finished_run_computes_nothing_again(tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(tmp_path / "run", suite)

    def refuse(self: object, x: object, timesteps: int) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(tiny_models.Tiny, "rollout", refuse)
    sweep(tmp_path / "run", suite)


def test_a_damaged_record_is_computed_again(tmp_path: Path, suite: str) -> None:
    reference = sweep(tmp_path / "run", suite)
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "records").iterdir()}
    victims = sorted(before)[:2]
    victims[0].write_bytes(before[victims[0]][:-9] + b"x" * 9)
    victims[1].unlink()
    same(sweep(tmp_path / "run", suite), reference)
    assert {path: path.read_bytes() for path in before} == before


def test_another_run_in_the_directory_is_refused_and_left_alone(tmp_path: Path, suite: str) -> None:
    sweep(tmp_path / "run", suite)
    before = (tmp_path / "run" / "run.json").read_bytes()
    for change, message in (
        ({"timesteps": 1}, "timesteps is None there, 1 here"),
        ({"seed": 5}, "seed is 0 there, 5 here"),
        ({"limit": 4}, "fingerprint"),
        ({"model": "tiny_models:still"}, "model is"),
    ):
        with pytest.raises(UserError, match=f"another run .*{message}"):
            sweep(tmp_path / "run", suite, **change)  # type: ignore[arg-type]
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_a_changed_image_is_refused_with_its_fingerprint(tmp_path: Path, suite: str) -> None:
    import numpy as np
    from PIL import Image

    folder = tmp_path / "images" / "n01440764"
    folder.mkdir(parents=True)
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    arguments = {"workers": 0, "figures": False}
    run("tiny_models:tiny", suite, str(tmp_path / "images"), tmp_path / "run", **arguments)  # type: ignore[arg-type]
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "1.png")
    one = "images with fingerprint [0-9a-f]{12}"
    with pytest.raises(UserError, match=f"holds another run .data is {one} there, {one} here"):
        run("tiny_models:tiny", suite, str(tmp_path / "images"), tmp_path / "run", **arguments)  # type: ignore[arg-type]


def test_logits_that_are_not_finite_stop_the_cell_and_keep_the_rest(tmp_path: Path, suite: str) -> None:
    with pytest.raises(
        RunError, match=r"explodes gives logits that are not finite at t = 1 for image imagenet_\d+_\d+"
    ):
        sweep(tmp_path / "run", suite, "tiny_models:explodes")
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["status"] == "failed"
    assert "tiny_models:explodes small clean 0" in info["cells"]
    assert len(info["cells"]) < 7


def test_a_batch_that_does_not_fit_is_halved(tmp_path: Path, suite: str) -> None:
    greedy = sweep(tmp_path / "greedy", suite, "tiny_models:greedy", batch_size=20).records
    roomy = sweep(tmp_path / "roomy", suite).records
    pd.testing.assert_frame_equal(greedy[EXACT], roomy[EXACT])
    with pytest.raises(RunError, match="no memory for a single image"):
        sweep(tmp_path / "stuck", suite, "tiny_models:stuck")


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = sweep(tmp_path / "reference", suite)
    killed: list[int] = []

    class Killer(Progress):
        def batch(self, glance: object, images: int) -> None:
            pool = pipelines[-1]._pool
            if pool is not None and not killed:
                killed.append(next(iter(pool._processes)))
                os.kill(killed[0], signal.SIGKILL)

    pipelines: list[Pipeline] = []
    start = Pipeline.__init__

    def remember(self: Pipeline, workers: int, folder: Path) -> None:
        start(self, workers, folder)
        pipelines.append(self)

    monkeypatch.setattr(Pipeline, "__init__", remember)
    same(sweep(tmp_path / "run", suite, workers=2, progress=Killer()), reference)
    assert killed
