"""The sweep: what it records, and that nothing but the request decides it."""

import itertools
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import tiny_models
import torch

from pcbench.errors import RunError, UserError
from pcbench.harness.pipeline import Pipeline
from pcbench.harness.progress import Progress
from pcbench.harness.run import RunResult, run
from pcbench.results.directory import read_cells
from pcbench.results.requests import read_requests
from pcbench.results.study import load_results

EXACT = ["image", "label", "timestep", "prediction", "correct", "prediction_cumulative", "perturbation", "severity"]


def sweep(output: Path, suite: str, model: str | tuple[str, ...] = "tiny_models:tiny", **more: object) -> RunResult:
    arguments = {"workers": 0, "figures": False, "batch_size": 7, **more}
    return run(model=model, suite=suite, data="samples", output=output, **arguments)


def contents(directory: Path) -> dict[str, str]:
    """File of each cell -> digest of its records, which is the same whoever computed them."""
    return {cell.path.name: cell.content for cell in read_cells(directory, lambda line: pytest.fail(line))}


def same(one: RunResult, other: RunResult) -> None:
    assert (one.directory / "accuracy.csv").read_bytes() == (other.directory / "accuracy.csv").read_bytes()
    left, right = one.records, other.records
    pd.testing.assert_frame_equal(left[EXACT], right[EXACT])
    # a kernel may sum in another order for another batch size
    pd.testing.assert_frame_equal(left, right, rtol=1e-4, atol=1e-5)


def test_a_run_has_the_files_and_columns_of_the_contract(tmp_path: Path, suite: str) -> None:
    result = sweep(tmp_path / "run", suite, timesteps=3)
    accuracy = pd.read_csv(tmp_path / "run" / "accuracy.csv")
    assert read_requests(tmp_path / "run").requests[0].status == "complete"
    assert list(accuracy)[:13] == [
        *("model", "weights", "data", "suite", "perturbation", "group", "severity", "timestep", "n", "correct"),
        *("accuracy", "ci_low", "ci_high"),
    ]
    assert {"seed", "dtype", "T", "has_dynamics", "cell"} <= set(accuracy)
    assert {"image", "label", "timestep", "prediction", "confidence", "correct", "nll"} <= set(result.records)
    assert len(result.records) == 7 * 20 * 4  # cells x images x timesteps
    assert sorted(accuracy["timestep"].unique()) == [0, 1, 2, 3]
    assert set(result.study.cells[0].seconds) == {"data", "perturbation", "model"}
    assert len(list((tmp_path / "run" / "records").glob("*.parquet"))) == 7
    assert len(repr(result)) < 300


def test_a_cell_is_complete_by_itself(tmp_path: Path, suite: str) -> None:
    """A file alone, copied elsewhere, says what it is, where it came from, and gives the same numbers."""
    import shutil

    result = sweep(tmp_path / "run", suite)
    one = result.study.cells[0]
    (tmp_path / "other" / "records").mkdir(parents=True)
    shutil.copy(one.path, tmp_path / "other" / "records")
    study = load_results(tmp_path / "other")
    assert study.cells[0].key == one.key
    assert {"packages", "git", "sources", "device", "seconds", "command", "model"} <= set(study.cells[0].provenance)
    whole = result.accuracy[result.accuracy["cell"] == one.key.digest[:16]]
    pd.testing.assert_frame_equal(
        study.accuracy.drop(columns="suite"), whole.drop(columns="suite").reset_index(drop=True), check_dtype=False
    )


def test_results_name_no_path_host_or_user(tmp_path: Path, suite: str) -> None:
    sweep(tmp_path / "run", suite)
    text = "".join(path.read_bytes().decode("latin-1") for path in (tmp_path / "run").rglob("*") if path.is_file())
    for secret in (str(tmp_path), os.uname().nodename, f"{Path.home()}/", str(Path.cwd())):
        assert secret not in text


def test_records_say_what_the_model_says(tmp_path: Path, suite: str) -> None:
    import numpy as np

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
        of_both = both.records[both.records["model"] == name]
        of_both = of_both[of_both["timestep"] <= alone["timestep"].max()].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_both[EXACT], alone[EXACT])
    feedforward = both.accuracy[both.accuracy["model"] == "tiny_models:still"]
    assert set(feedforward["timestep"]) == {0, 1, 2}  # the same answer at every timestep of a comparison
    assert not feedforward["has_dynamics"].any()
    assert (feedforward.groupby(["perturbation", "severity"])["correct"].nunique() == 1).all()
    of_records = both.records[both.records["model"] == "tiny_models:still"]
    assert set(of_records["timestep"]) == {0, 1, 2}


def test_one_pass_gives_all_timesteps(tmp_path: Path, suite: str) -> None:
    sweep(tmp_path / "run", suite, "tiny_models:counted", timesteps=5, batch_size=20)
    calls = tiny_models.MADE[-1].calls
    assert [call for call in calls if call[0] == 20] == [(20, 5)] * 7  # others measure what a timestep costs


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
    with pytest.raises(
        KeyboardInterrupt, match=rf"{after} of 7 cells .* go on with: pcbench run .*--output .*run --no-figures$"
    ):
        sweep(tmp_path / "run", suite, progress=Interrupt(after))
    assert read_requests(tmp_path / "run").requests[0].status == "interrupted"
    assert len(contents(tmp_path / "run")) == after
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "records").iterdir()}
    same(sweep(tmp_path / "run", suite, batch_size=3), reference)
    assert all(path.stat().st_mtime_ns == written for path, written in files.items()), "a finished cell was redone"


def test_a_finished_run_computes_nothing_again(tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(tmp_path / "run", suite)

    rollout = tiny_models.Tiny.rollout

    def refuse(self: tiny_models.Tiny, x: torch.Tensor, timesteps: int) -> torch.Tensor:
        if len(x) > 1:  # one image tells how many classes there are
            raise AssertionError("computed again")
        return rollout(self, x, timesteps)

    monkeypatch.setattr(tiny_models.Tiny, "rollout", refuse)
    sweep(tmp_path / "run", suite)


def test_a_damaged_cell_is_named_and_computed_again(tmp_path: Path, suite: str) -> None:
    reference = sweep(tmp_path / "run", suite)
    before = contents(tmp_path / "run")
    victims = sorted((tmp_path / "run" / "records").iterdir())[:2]
    victims[0].write_bytes(victims[0].read_bytes()[:-9] + b"x" * 9)
    victims[1].unlink()
    assert any(victims[0].name in line for line in load_results(tmp_path / "run").problems)
    same(sweep(tmp_path / "run", suite), reference)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("kept", [0, 4, 0.5, -1])
def test_a_truncated_cell_is_named_and_the_rest_is_there(tmp_path: Path, suite: str, kept: float) -> None:
    """Nothing, the first signature, half, all but the last byte."""
    reference = sweep(tmp_path / "run", suite)
    before = contents(tmp_path / "run")
    victim = sorted((tmp_path / "run" / "records").iterdir())[3]
    content = victim.read_bytes()
    victim.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else int(kept)])
    study = load_results(tmp_path / "run")
    (problem,) = study.problems
    assert victim.name in problem
    assert "\n" not in problem
    assert len(study.cells) == 6
    assert study.missing == 1
    same(sweep(tmp_path / "run", suite), reference)
    assert contents(tmp_path / "run") == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_cell_that_may_not_be_read_is_named_and_the_rest_is_there(tmp_path: Path, suite: str) -> None:
    reference = sweep(tmp_path / "run", suite)
    victim = sorted((tmp_path / "run" / "records").iterdir())[3]
    victim.chmod(0)
    study = load_results(tmp_path / "run")
    (problem,) = study.problems
    assert victim.name in problem
    assert "ermission denied" in problem
    assert len(study.cells) == 6
    same(sweep(tmp_path / "run", suite), reference)  # written anew, in its place


def test_temporary_folders_of_other_users_are_passed_over(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that many share, they lie side by side, and nobody may look into another's."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    other = tmp_path / "pcbench-images-other"
    other.mkdir()
    exists = Path.exists

    def refused(self: Path, **more: bool) -> bool:
        if self.parent == other:
            raise PermissionError(13, "Permission denied", str(self))
        return exists(self, **more)

    monkeypatch.setattr(Path, "exists", refused)
    assert len(sweep(tmp_path / "run", suite, limit=2).study.cells) == 7
    assert other.is_dir()


def test_another_model_suite_or_number_of_images_extends_the_directory(tmp_path: Path, suite: str) -> None:
    first = sweep(tmp_path / "run", suite)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "records").iterdir()}
    for change in ({"timesteps": 1}, {"seed": 5}, {"limit": 4}, {"model": "tiny_models:still"}):
        more = sweep(tmp_path / "run", suite, **change)  # type: ignore[arg-type]
        assert len(more.study.cells) == 7
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    assert len(contents(tmp_path / "run")) == 5 * 7
    assert len(read_requests(tmp_path / "run").requests) == 5
    pd.testing.assert_frame_equal(sweep(tmp_path / "run", suite).accuracy, first.accuracy)


def test_conditions_of_two_suites_are_computed_once(tmp_path: Path, suite: str) -> None:
    larger = tmp_path / "larger.toml"
    text = (
        Path(suite).read_text().replace('"small"', '"larger"').replace("severities = [1, 3]", "severities = [1, 3, 5]")
    )
    larger.write_text(text)
    sweep(tmp_path / "run", suite)
    result = sweep(tmp_path / "run", str(larger))
    assert len(contents(tmp_path / "run")) == 9
    accuracy = pd.read_csv(tmp_path / "run" / "accuracy.csv")
    assert accuracy.groupby("suite")["cell"].nunique().to_dict() == {"small": 7, "larger": 9}
    assert len(result.study.cells) == 9


def test_changed_images_are_other_cells(tmp_path: Path, suite: str) -> None:
    import numpy as np
    from PIL import Image

    folder = tmp_path / "images" / "n01440764"
    folder.mkdir(parents=True)
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    for expected in (7, 14):
        run(
            model="tiny_models:tiny",
            suite=suite,
            data=str(tmp_path / "images"),
            output=tmp_path / "run",
            workers=0,
            figures=False,
        )
        assert len(contents(tmp_path / "run")) == expected
        Image.fromarray(np.full((40, 40, 3), 9, np.uint8)).save(folder / "1.png")


def test_going_on_keeps_where_finished_cells_came_from(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_commit(commit: str) -> None:
        monkeypatch.setattr("pcbench.results.provenance.git", lambda: {"commit": commit, "dirty": False})
        monkeypatch.setattr("pcbench.results.provenance.packages", lambda: {"torch": commit})

    from_commit("aaaa")
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "run", suite, progress=Interrupt(1))
    from_commit("bbbb")
    result = sweep(tmp_path / "run", suite)
    from_commit("cccc")
    result = sweep(tmp_path / "run", suite)
    commits = [(cell.provenance["git"]["commit"], cell.provenance["packages"]["torch"]) for cell in result.study.cells]
    assert sorted(commits) == [("aaaa", "aaaa"), *[("bbbb", "bbbb")] * 6]


def test_cells_of_other_code_are_not_added_to_unless_told(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "run", suite, progress=Interrupt(2))
    before = contents(tmp_path / "run")
    monkeypatch.setattr("pcbench.harness.run.sources_digest", lambda: "f" * 64)
    with pytest.raises(UserError, match=r"cells that other code computed \(pcbench .*here ffffffff.*--other-code"):
        sweep(tmp_path / "run", suite)
    assert contents(tmp_path / "run") == before
    sweep(tmp_path / "run", suite, other_code=True)
    assert len(contents(tmp_path / "run")) == 7


def test_a_cell_is_charged_what_a_pass_over_its_images_takes(tmp_path: Path, suite: str) -> None:
    """A pass takes 50 ms; the cells of a group share images, and none is charged the passes of the others."""
    result = sweep(tmp_path / "run", suite, "tiny_models:slow", batch_size=20)
    for cell in result.study.cells:
        assert 0.05 <= cell.seconds["model"] < 1.3 * 0.05 + 0.05  # a loaded machine may take its time, not a group's
    cost = pd.read_csv(tmp_path / "run" / "cost.csv")
    assert 20 / (1.3 * 0.05 + 0.05) < cost["images_per_second"].iloc[0] <= 20 / 0.05


def test_two_processes_fill_one_directory_and_nothing_is_done_twice(tmp_path: Path, suite: str) -> None:
    """The second one meets the claims of the first on every group, waits, and computes what is left."""
    reference = sweep(tmp_path / "reference", suite)
    inner: list[RunResult] = []

    class Second(Progress):
        def cell(self, finished: object) -> None:
            if not inner:
                counted.clear()
                with pytest.raises(KeyboardInterrupt):
                    inner.append(sweep(tmp_path / "run", suite, progress=Interrupt(3)))
                inner.append(reference)

    counted: list[int] = []
    first = sweep(tmp_path / "run", suite, progress=Second())
    same(first, reference)
    assert contents(tmp_path / "run") == contents(tmp_path / "reference")
    assert not (tmp_path / "run" / ".work").exists()


def test_notices_of_a_run_from_python_are_warnings_of_our_own(tmp_path: Path, suite: str) -> None:
    from pcbench import Notice

    with pytest.warns(Notice, match="samples"):
        run(model="tiny_models:tiny", suite=suite, output=tmp_path / "run", workers=0, figures=False, limit=2)


def test_a_run_takes_a_config_or_keywords_and_refuses_both(tmp_path: Path, suite: str) -> None:
    from pcbench import RunConfig

    config = RunConfig.of(
        model="tiny_models:tiny", suite=suite, data="samples", output=tmp_path / "run", workers=0, figures=False
    )
    assert len(run(config).study.cells) == 7
    with pytest.raises(UserError, match="not both: limit"):
        run(config, limit=3)
    with pytest.raises(UserError, match=r"no option 'sed'.*seed"):
        run(model="tiny_models:tiny", suite=suite, sed=1)


@pytest.mark.parametrize("place", ["file", "link", "diary"])
def test_an_output_that_is_no_results_directory_is_refused(tmp_path: Path, suite: str, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "notes.txt").write_text("dear")
    with pytest.raises(UserError, match="--output"):
        sweep(tmp_path / place, suite)
    assert [path.name for path in (tmp_path / "diary").iterdir()] == ["notes.txt"]


def test_logits_that_are_not_finite_stop_the_cell_and_keep_the_rest(tmp_path: Path, suite: str) -> None:
    with pytest.raises(
        RunError, match=r"explodes gives logits that are not finite at t = 1 for image imagenet_\d+_\d+"
    ):
        sweep(tmp_path / "run", suite, "tiny_models:explodes")
    assert read_requests(tmp_path / "run").requests[0].status == "failed"
    assert 0 < len(contents(tmp_path / "run")) < 7


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
