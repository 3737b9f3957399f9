import warnings
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic import Model, gaussian_noise, imagenet_c, make_run, standard_models

from pcbench.cli.figures import command
from pcbench.errors import RunError, UserError
from pcbench.figures import style
from pcbench.figures.papers.cekic2022_table import draw as cekic
from pcbench.figures.papers.predify2021_mce import draw as mce
from pcbench.figures.papers.predify2021_noise import draw as noise
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


def test_few_images_have_ratios_with_intervals_and_no_warning(tmp_path: Path) -> None:
    suites = {"imagenet-c": imagenet_c(["fog", "snow"])}
    run = make_run(tmp_path / "a", [Model("dynamic", 2, level=1.08)], suites, n=4)  # few errors, and few images
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = CliRunner().invoke(command, ["predify2021", "--runs", str(run), "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "out" / "mce.csv")
    assert table["ratio"].notna().all()
    later = table[table["timestep"] > 0]
    assert (later["low"] < later["ratio"]).all()
    assert (later["ratio"] < later["high"]).all()


def test_networks_with_other_timesteps_keep_their_own_axis_and_the_figure_says_what_it_shows(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [Model("short", 2)], {"gaussian-noise": gaussian_noise()}, n=20)
    make_run(tmp_path / "b", [Model("long", 6)], {"gaussian-noise": gaussian_noise()}, n=20)
    figure, _ = noise(load_results(tmp_path))
    assert [ax.get_xlim() for ax in figure.axes] == [(-0.3, 2.3), (-0.3, 6.3)]
    assert [len(line.get_xdata()) for line in figure.axes[1].lines[:1]] == [7]
    said = " ".join(figure.get_suptitle().split())
    assert "gaussian-noise, strength 0.25 to 2, made, 20 images" in said
    assert said.endswith("T = 2, 6")


def test_mce_says_what_the_published_figure_has_and_this_one_has_not(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", standard_models(2), {"imagenet-c": imagenet_c(["fog", "snow"])}, n=20)
    figure, table = mce(load_results(run))
    assert "T = 2; published: 19 perturbations, T = 10" in figure.get_suptitle()
    assert table["perturbations"].unique().tolist() == [2]


def test_no_two_networks_share_a_marker() -> None:
    assert len({style.marker(index) for index in range(14)}) == 14


@pytest.mark.parametrize("module", ["predify2021_mce", "predify2021_ce_grid", "cekic2022_table", "nayebi2018_accuracy"])
def test_no_legend_is_clipped_however_many_and_long_the_names(tmp_path: Path, module: str) -> None:
    names = [f"convrnn-cell{i}-shallow-cifar?option=0.{i}&another-option=0.{i}{i}" for i in range(9)]
    suites = {"imagenet-c": imagenet_c(["fog", "snow"]), "clean": CLEAN}
    run = make_run(tmp_path / "a", [Model(name, 2) for name in names], suites, n=10)
    with style.style():
        made = import_module(f"pcbench.figures.papers.{module}").draw(load_results(run))
        figure = made[0]
        style.save(*made, tmp_path / "figure", ("png",))
        figure.draw_without_rendering()
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y1 <= figure.bbox.y1 + 1
    assert min(ax.get_window_extent().height for ax in figure.axes) > 40


def test_the_hah_table_names_what_is_missing_and_draws_what_was_published(tmp_path: Path) -> None:
    suites = {"clean": CLEAN, "gaussian-noise-pixel": [("gaussian-noise-pixel", "noise", 0.1)]}
    run = make_run(tmp_path / "a", [Model("hah-vgg16"), Model("vgg16-cifar")], suites, n=10, data="cifar10")
    figure, table = cekic(load_results(run))
    assert "not there: linf ε 2/255, l2 ε 0.25" in " ".join(figure.get_suptitle().split())
    published = table[table["n"].isna()].set_index(["model", "condition"])["accuracy"]
    assert published["published, HaH", "noise σ 0.1"] == 64.0
    assert len(published) == 8
