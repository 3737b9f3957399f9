import warnings
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic import Model, gaussian_noise, imagenet_c, make_run, standard_models

from pcbench.cli.figures import command
from pcbench.errors import RunError, UserError
from pcbench.figures.run import study_figures
from pcbench.results.study import load_results

CLEAN = [("clean", "clean", 0.0)]


def test_figures_of_predify_are_drawn_from_runs_and_what_is_missing_is_named(tmp_path: Path) -> None:
    suites = {"imagenet-c": imagenet_c(["fog", "snow"]), "gaussian-noise": gaussian_noise()}
    run = make_run(tmp_path / "a", standard_models(2), suites, n=20)
    result = CliRunner().invoke(command, ["predify2021", "--runs", str(run), "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "predify2021/manifold needs a run of suite manifold" in result.output
    for name in ("mce", "ce-grid", "gaussian-noise"):
        assert {path.suffix for path in (tmp_path / "out").glob(f"{name}.*")} == {".png", ".svg", ".pdf", ".csv"}
    table = pd.read_csv(tmp_path / "out" / "mce.csv").set_index("timestep")
    accuracy = load_results(run).accuracy
    own = accuracy[(accuracy["model"] == "dynamic") & (accuracy["suite"] == "imagenet-c")]
    error = 1 - own.groupby("timestep")["accuracy"].mean()
    assert table.loc[2, "ratio"] == pytest.approx(error[2] / error[0], rel=1e-5)


def test_unknown_paper_and_nothing_to_draw_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [Model("static")], {"clean": CLEAN}, n=5)
    arguments = ["--runs", str(run), "--output", str(tmp_path / "out")]
    assert isinstance(CliRunner().invoke(command, ["predfy2021", *arguments]).exception, UserError)
    assert isinstance(CliRunner().invoke(command, ["predify2021", *arguments]).exception, RunError)


@pytest.mark.parametrize(
    ("models", "suites"),
    [
        ([Model("timm:a/b")], {"clean": CLEAN}),
        ([Model("a", 0), Model("b", 0)], {"imagenet-c": imagenet_c(["fog"])}),
        ([Model("a", 3)], {"clean": CLEAN}),
        ([Model("a", 2)], {"noise": gaussian_noise()}),
    ],
)
def test_any_run_can_be_drawn(
    tmp_path: Path, models: list[Model], suites: dict[str, list[tuple[str, str, float]]]
) -> None:
    run = make_run(tmp_path / "a", models, suites, n=4)
    assert any(path.suffix == ".png" for path in study_figures(load_results(run), tmp_path / "figures"))


def test_an_interrupted_run_is_drawn_as_far_as_it_went(tmp_path: Path) -> None:
    suites = {"imagenet-c": imagenet_c(["fog", "snow"]), "clean": CLEAN}
    run = make_run(tmp_path / "a", standard_models(2), suites, n=6, leave_out=3, status="interrupted")
    assert study_figures(load_results(run), tmp_path / "figures")


def test_long_names_leave_room_for_the_panels(tmp_path: Path) -> None:
    name = "net?feedback=" + ",".join(["0.25"] * 16) + "&feedforward=" + ",".join(["0.5"] * 16)
    run = make_run(tmp_path / "a", [Model(name, 2)], {"noise": gaussian_noise()}, n=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = study_figures(load_results(run), tmp_path / "figures")
    assert all(len(file.name) < 120 for file in files)


def test_the_noise_of_the_hah_table_is_in_the_suite_that_is_run_for_it() -> None:
    from pcbench.figures.papers.cekic2022_table import PLAIN, PUBLISHED_SIGMA
    from pcbench.suites.registry import load_suite

    assert PUBLISHED_SIGMA in {condition.severity for condition in load_suite(PLAIN[1]).conditions}


def test_few_images_have_ratios_without_intervals_and_no_warning(tmp_path: Path) -> None:
    suites = {"imagenet-c": imagenet_c(["fog", "snow"])}
    run = make_run(tmp_path / "a", [Model("dynamic", 2, level=1.08)], suites, n=4)  # some resamples make no error
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = CliRunner().invoke(command, ["predify2021", "--runs", str(run), "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "out" / "mce.csv")
    assert table["ratio"].notna().all()
    assert table["low"].isna().all()
