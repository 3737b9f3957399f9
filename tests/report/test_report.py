import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from synthetic import Model, gaussian_noise, imagenet_c, make_run, standard_models

from pcbench.analysis.compare import compare
from pcbench.analysis.wording import verdicts
from pcbench.cli.report import command
from pcbench.report.page import findings
from pcbench.report.tables import Cell, Grid, to_latex
from pcbench.results.study import load_results

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    make_run(
        root / "a", standard_models(2), {"imagenet-c": imagenet_c(["fog", "snow"]), "noise": gaussian_noise()}, n=20
    )
    make_run(root / "b", [Model("</script><b>x", 0)], {"imagenet-c": imagenet_c(["fog", "snow"])}, n=20)
    result = CliRunner().invoke(command, [str(root), "--output", str(root / "report.html")])
    assert result.exit_code == 0, result.output
    return root / "report.html"


def test_the_page_asks_nothing_of_the_network_and_escapes_names(report: Path) -> None:
    text = report.read_text()
    assert "<script src=" not in text
    assert '<link rel="stylesheet"' not in text
    assert "<b>x" not in text


def test_the_page_gives_the_plain_answers_and_says_that_there_are_no_pictures(report: Path) -> None:
    text = report.read_text()
    for question in compare(report.parent / "a").questions:
        assert f">{verdicts(question)[0]}<" in text
    assert "None of these cells has pictures" in text


def test_systems_of_one_name_keep_their_own_answers(tmp_path: Path) -> None:
    for weights in ("wa", "wb"):
        make_run(tmp_path / weights, standard_models(2, weights), {"gaussian-noise": gaussian_noise()}, n=20)
    lines = findings(load_results(tmp_path))["gaussian-noise"]
    for weights in ("wa", "wb"):
        assert any(line.startswith(f"dynamic [{weights}] against static [{weights}], gaussian-noise") for line in lines)


def test_latex_has_the_signs_of_numbers_and_leaves_names_alone() -> None:
    text = to_latex(Grid("a-b at t = 0", ["", "difference"], [[Cell("jpeg_1-2"), Cell("-1.24 to -0.26")]]))
    assert r"jpeg\_1-2 & $-$1.24 to $-$0.26 \\" in text
    assert r"\caption{a-b at t = 0." in text


@pytest.mark.browser
def test_the_page_sorts_filters_and_shows_the_right_numbers(report: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine: the page cannot be opened")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        view = browser.new_page()
        errors: list[str] = []
        view.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.goto(report.as_uri())
        rows = view.locator("#board tbody tr")
        assert rows.count() == 3
        view.locator("#curves .plot-container").wait_for(state="attached")
        assert view.locator("#filter-suite").input_value() == "imagenet-c"
        view.select_option("#filter-model", "dynamic [synthetic]")  # name and weights: two of one name stay apart
        assert rows.count() == 1
        table = pd.read_csv(report.parent / "a" / "accuracy.csv")
        last = table[(table["model"] == "dynamic") & (table["suite"] == "imagenet-c") & (table["timestep"] == 2)]
        expected = 100 * last.groupby("perturbation")["accuracy"].mean().mean()
        assert abs(float(rows.first.locator("td").nth(6).inner_text()) - expected) < 0.051
        view.select_option("#filter-model", "")
        head = view.locator("#board thead th").nth(0)
        head.locator("button").focus()
        view.keyboard.press("Enter")
        names = [rows.nth(i).locator("td").first.inner_text() for i in range(3)]
        assert names == sorted(names)
        assert head.get_attribute("aria-sort") == "ascending"
        assert errors == []
        browser.close()
