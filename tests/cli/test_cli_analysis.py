"""`pcbench compare`, `figures`, `report` and `results` on whole, partial and damaged runs."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic import Model, gaussian_noise, imagenet_c, make_run, standard_models

from pcbench.cli.compare import command as compare
from pcbench.cli.figures import command as figures
from pcbench.cli.report import command as report
from pcbench.cli.results import command as results
from pcbench.errors import RunError, UserError
from pcbench.results.load import load_results

SUITES = {"imagenet-c": imagenet_c(["fog", "snow"])}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "a", standard_models(10), SUITES, n=20)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_compare_cuts_nothing_off_at_any_width(run: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    result = CliRunner().invoke(compare, [str(run)])
    assert result.exit_code == 0, result.output
    assert "…" not in result.output
    assert "..." not in result.output
    for t in range(11):
        assert f"t={t}" in result.output
    tables = [line for line in result.output.splitlines() if line.startswith(("fog", "snow", "t=", "mean"))]
    assert max(map(len, tables)) <= width


def test_compare_writes_the_tables_that_it_prints(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(compare, [str(run), "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    for name in ("comparison.csv", "comparison.md", "comparison.tex", "corruption-errors.csv"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert "dynamic against static" in (tmp_path / "out" / "comparison.md").read_text()
    assert list((tmp_path / "out" / "figures").glob("*.pdf"))


def test_compare_refuses_what_it_cannot_compare(tmp_path: Path) -> None:
    alone = make_run(tmp_path / "alone", [Model("static")], SUITES, n=5)
    with pytest.raises(UserError, match="name a second run"):
        CliRunner().invoke(compare, [str(alone)], catch_exceptions=False)
    with pytest.raises(UserError, match=r"no model 'statc'.*static"):
        CliRunner().invoke(compare, [str(alone), "--baseline", "statc"], catch_exceptions=False)


def _damage(run: Path) -> str:
    victim = sorted((run / "records").glob("*.parquet"))[0]
    victim.write_bytes(victim.read_bytes()[:40])
    return victim.name


@pytest.mark.parametrize("verb", ["figures", "report"])
def test_a_damaged_file_is_named_and_the_rest_is_used(run: Path, tmp_path: Path, verb: str) -> None:
    make_run(run.parent / "b", standard_models(2), SUITES, n=10)
    (run.parent / "b" / "run.json").write_text("{")
    name = _damage(run)
    arguments = {
        "figures": ["predify2021", "--runs", str(run.parent), "--output", str(tmp_path / "out")],
        "report": [str(run.parent), "--output", str(tmp_path / "page.html")],
    }
    result = CliRunner().invoke({"figures": figures, "report": report}[verb], arguments[verb])
    assert result.exit_code == 0, result.output
    assert name in result.output
    assert "is damaged" in result.output
    assert str(run.parent / "b" / "run.json") in result.output


def test_compare_names_a_damaged_file_and_compares_what_all_models_have(run: Path) -> None:
    name = _damage(run)
    result = CliRunner().invoke(compare, [str(run)])
    assert result.exit_code == 0, result.output
    assert f"{name} is damaged" in result.output
    assert "left out, because not all models have it: fog 1 of" in result.output
    assert "no corruption errors: fog has severities 2, 3, 4, 5" in result.output


def test_a_run_published_without_its_records_says_so_in_one_line(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "records")
    with pytest.raises(UserError, match=rf"no records: {run / 'records'} is missing, with all its files"):
        CliRunner().invoke(compare, [str(run)], catch_exceptions=False)
    make_run(run.parent / "b", standard_models(2), SUITES, n=10)
    result = CliRunner().invoke(report, [str(run.parent), "--output", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    assert result.output.count(f"{run / 'records'} is missing") == 1


def test_compare_shows_noise_by_its_strength_and_repeats_no_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", standard_models(2), {"noise": gaussian_noise()}, n=20)
    result = CliRunner().invoke(compare, [str(run)])
    assert result.exit_code == 0, result.output
    for sigma in ("0", "0.25", "0.5", "0.75", "1", "2"):
        assert result.output.count(f"gaussian-noise {sigma} ") == 1  # the baseline is the network's t = 0: one table
    assert "dynamic against static, noise:" in result.output


def test_an_incomplete_run_is_named_with_the_command_that_finishes_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", standard_models(2), SUITES, n=6, leave_out=2, status="interrupted")
    info = json.loads((run / "run.json").read_text())
    info["command"] = ["pcbench", "run", "--model", "dynamic"]
    (run / "run.json").write_text(json.dumps(info))
    finishing = "pcbench run --model dynamic"
    with pytest.raises(UserError, match=finishing):
        CliRunner().invoke(compare, [str(run)], catch_exceptions=False)
    for verb, arguments in (
        (report, [str(run), "--output", str(tmp_path / "page.html")]),
        (results, [str(run)]),
        (figures, ["predify2021", "--runs", str(run), "--output", str(tmp_path / "out"), "--figure", "mce"]),
    ):
        result = CliRunner().invoke(verb, arguments)
        assert result.exit_code == 0, result.output
        assert finishing in result.output.replace("\n", " ")


def test_a_run_of_an_older_form_opens_and_one_of_a_newer_says_why_not(run: Path, tmp_path: Path) -> None:
    path = run / "run.json"
    info = json.loads(path.read_text())
    for later in ("identity", "planned", "plan", "shard", "command", "seconds", "notices"):
        info.pop(later, None)
    path.write_text(json.dumps(info))
    assert CliRunner().invoke(compare, [str(run)]).exit_code == 0
    assert CliRunner().invoke(report, [str(run), "--output", str(tmp_path / "page.html")]).exit_code == 0
    info["schema_version"] = 99
    path.write_text(json.dumps(info))
    with pytest.raises(UserError, match="upgrade pcbench"):
        load_results(run)


def test_figures_compute_what_is_missing_and_only_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], str]] = []

    def run(models: list[str], suite: str, data: str | None, target: Path, **options: object) -> None:
        calls.append((models, suite))
        make_run(target, [Model(name, 2) for name in models], {suite: imagenet_c(["fog"])}, n=5)

    monkeypatch.setattr("pcbench.harness.run.run", run)
    runs, out = tmp_path / "runs", tmp_path / "out"
    arguments = ["predify2021", "--runs", str(runs), "--output", str(out), "--figure", "mce", "--run"]
    first = CliRunner().invoke(figures, arguments)
    assert first.exit_code == 0, first.output
    assert [models for models, _ in calls] == [["pefficientnet-lite0"]]
    assert CliRunner().invoke(figures, arguments).exit_code == 0
    assert len(calls) == 1
    assert CliRunner().invoke(figures, [*arguments, "--model", "other"]).exit_code == 0
    assert [models for models, _ in calls] == [["pefficientnet-lite0"], ["other"]]


def test_figures_without_any_run_say_what_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [Model("static")], SUITES, n=5)
    with pytest.raises(RunError, match="--run computes what is missing"):
        CliRunner().invoke(
            figures, ["predify2021", "--runs", str(run), "--output", str(tmp_path / "o")], catch_exceptions=False
        )
