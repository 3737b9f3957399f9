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
from pcbench.results.cell import Answers, Cell, encode
from pcbench.results.study import load_results

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


def test_compare_says_how_many_cells_are_of_code_that_no_commit_says(run: Path) -> None:
    def warned() -> list[str]:
        result = CliRunner().invoke(compare, [str(run)])
        assert result.exit_code == 0, result.output
        return [line for line in result.stderr.splitlines() if "cells, " in line]

    assert warned() == [], "all are of a clean checkout"
    cells = load_results(run).cells
    for cell, git in zip(cells, [{"commit": "b" * 40, "dirty": True}] * 3 + [{}], strict=False):
        content = encode_again(cell, {**cell.provenance, "git": git})
        cell.path.write_bytes(content)
    both = "3 are from a checkout with uncommitted changes and 1 are from code of an unknown commit"
    assert warned() == [f"warning: of {len(cells)} cells, {both}"]


def encode_again(cell: Cell, provenance: dict[str, object]) -> bytes:
    """The file of a cell that came from elsewhere."""
    names = ("prediction", "confidence", "nll", "prediction_cumulative")
    steps = cell.key.timesteps + 1
    answers = Answers(
        list(cell.column("image")[::steps]), cell.column("label")[::steps], {name: cell.matrix(name) for name in names}
    )
    return encode(cell.key, answers, provenance, cell.report)


def test_compare_refuses_what_it_cannot_compare(tmp_path: Path) -> None:
    alone = make_run(tmp_path / "alone", [Model("static")], SUITES, n=5)
    with pytest.raises(UserError, match="name further results"):
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
    with pytest.raises(UserError, match=rf"1 of 20 cells missing.*{name} is damaged.*--despite incomplete"):
        CliRunner().invoke(compare, [str(run)], catch_exceptions=False)
    result = CliRunner().invoke(compare, [str(run), "--despite", "incomplete"])
    assert result.exit_code == 0, result.output
    assert f"{name} is damaged" in result.output
    assert "left out, because not all models have it: fog 1 of" in result.output
    assert "no corruption errors: fog has severities 2, 3, 4, 5" in result.output


def test_results_without_records_say_so_in_one_line(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "records")
    with pytest.raises(UserError, match=r"unfinished \(20 of 20 cells missing\)"):
        CliRunner().invoke(compare, [str(run)], catch_exceptions=False)
    make_run(run.parent / "b", standard_models(2), SUITES, n=10)
    result = CliRunner().invoke(report, [str(run.parent), "--output", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    assert result.output.count(f"{run} is unfinished") == 1


def test_compare_shows_noise_by_its_strength_and_repeats_no_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", standard_models(2), {"noise": gaussian_noise()}, n=20)
    result = CliRunner().invoke(compare, [str(run)])
    assert result.exit_code == 0, result.output
    for sigma in ("0", "0.25", "0.5", "0.75", "1", "2"):
        assert result.output.count(f"gaussian-noise {sigma} ") == 1  # the baseline is the network's t = 0: one table
    assert "dynamic against static, noise:" in result.output


def test_what_is_incomplete_is_named_with_the_command_that_finishes_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", standard_models(2), SUITES, n=6, leave_out=2, status="interrupted")
    finishing = f"pcbench run --model dynamic --model static --suite imagenet-c --data made --output {run}"
    with pytest.raises(UserError, match="interrupted"):
        CliRunner().invoke(compare, [str(run)], catch_exceptions=False)
    for verb, arguments in (
        (report, [str(run), "--output", str(tmp_path / "page.html")]),
        (results, [str(run)]),
        (figures, ["predify2021", "--runs", str(run), "--output", str(tmp_path / "out"), "--figure", "mce"]),
    ):
        result = CliRunner().invoke(verb, arguments)
        assert result.exit_code == 0, result.output
        assert finishing in result.output.replace("\n", " ")


def test_the_command_that_finishes_is_never_taken_from_a_file(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", standard_models(1), SUITES, n=4, leave_out=1)
    path = run / "run.json"
    info = json.loads(path.read_text())
    info["requests"][0]["asked"] = {"model": ["x; rm -rf ~"], "suite": ["$(reboot)"], "unheard-of": "--yes"}
    path.write_text(json.dumps(info))
    said = CliRunner().invoke(results, [str(run)]).output
    assert "cannot be repeated as it stands: a run has no option 'unheard-of'" in said
    info["requests"][0]["asked"].pop("unheard-of")
    path.write_text(json.dumps(info))
    said = CliRunner().invoke(results, [str(run)]).output
    assert "--model 'x; rm -rf ~' --suite '$(reboot)'" in said


def test_a_place_that_a_record_names_by_its_last_part_is_said_to_be_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", standard_models(1), SUITES, n=4, leave_out=1, data="cifar10.npz")
    said = CliRunner().invoke(results, [str(run)]).output.replace("\n", " ")
    assert "put the folder of cifar10.npz before the name" in said


def test_results_of_schema_1_are_refused_by_name(run: Path) -> None:
    (run / "run.json").write_text(json.dumps({"schema_version": 1, "status": "complete"}))
    assert "is of schema 1" in load_results(run).problems[0]
    shutil.rmtree(run / "records")
    with pytest.raises(UserError, match="is of schema 1"):
        load_results(run)


def test_figures_compute_what_is_missing_and_only_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[str], str]] = []

    def run(*, model: list[str], suite: str, output: Path, **options: object) -> None:
        calls.append((model, suite))
        make_run(output, [Model(name, 2) for name in model], {suite: imagenet_c(["fog"])}, n=5)

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


@pytest.fixture
def question(tmp_path: Path) -> list[str]:
    """One exact question of a run: better than the baseline at t = 3 under fog?"""
    run = make_run(
        tmp_path / "q", standard_models(4), {**SUITES, "clean": [("clean", "clean", 0.0)], "n": gaussian_noise()}, n=200
    )
    words = ["--model", "dynamic", "--baseline", "static", "--perturbation", "fog", "--timestep", "3"]
    return [str(run), *words]


def test_compare_answers_the_question_that_was_asked_and_no_other(question: list[str]) -> None:
    import pcbench

    result = CliRunner().invoke(compare, question)
    assert result.exit_code == 0, result.output
    first = result.output.splitlines()[0]
    assert first.startswith("dynamic against static, imagenet-c: better at t = 3 by ")
    assert "(fog, severity 1 to 5, made, 200 images)" in first
    assert "t=2" not in result.output
    assert "snow" not in result.output
    assert "on clean images: " in result.output
    assert "over strengths where the baseline is above chance: " in result.output
    found = pcbench.compare(question[0], model="dynamic", baseline="static", perturbation="fog", timestep=3)
    assert found.sentences[0] == first
    assert found.table["timestep"].unique().tolist() == [3]
    assert found.headline["measure"].tolist() == ["clean images", "area above chance"]


def test_json_has_the_numbers_of_the_table_and_nothing_but_json(question: list[str]) -> None:
    result = CliRunner().invoke(compare, [*question, "--json", "--margin", "2", "--power", "1"])
    said = json.loads(result.stdout)
    assert said["answers"][0].startswith("dynamic against static")
    overall = next(row for row in said["rows"] if row["level"] == "overall")
    assert overall["verdict"] == "better"
    assert said["power"][0]["images"] > 200
    assert any("images would show 1 point (power 80 %)" in line for line in said["answers"])


def test_compare_names_what_there_is_not(question: list[str]) -> None:
    for change, said in (
        (["--perturbation", "fogg"], "did you mean fog"),
        (["--timestep", "9"], "has timesteps 0 to 4, not 9"),
        (["--model", "dynamo"], "did you mean dynamic"),
        (["--margin", "0"], "between 0 and 100"),
    ):
        arguments = [question[0], *(["--perturbation", "fog"] if change[0] != "--perturbation" else []), *change]
        with pytest.raises(UserError, match=said):
            CliRunner().invoke(compare, arguments, catch_exceptions=False)


def test_a_study_wide_family_is_said_and_never_asks_for_less(question: list[str]) -> None:
    import pcbench

    alone, together = (pcbench.compare(question[0], family=family) for family in (False, True))
    assert all(any("of all 6 comparisons" in note for note in each.notes) for each in together.questions)
    both = alone.table["p_corrected"].notna()
    assert (together.table["p_corrected"][both] >= alone.table["p_corrected"][both] - 0.01).all()


def test_equivalence_is_claimed_within_a_margin_alone(tmp_path: Path) -> None:
    import pcbench

    run = make_run(tmp_path / "a", [Model("flat", 1)], SUITES, n=300)
    words = [set(pcbench.compare(run, timestep=1, margin=m).table["verdict"]) for m in (None, 5)]
    assert words == [{"no difference shown"}, {"equivalent"}]


def test_long_names_are_letters_with_a_legend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = "pvgg16-cifar?" + "&".join(f"option{i}=0.{i}" for i in range(8))
    run = make_run(tmp_path / "a", [Model(long, 1), Model("static")], SUITES, n=20)
    said = CliRunner().invoke(compare, [str(run)]).output
    assert f"<A> is {long}" in said
    assert "imagenet-c, headline: <A> against " in said


def test_latex_names_its_packages_and_holds_the_comparison_that_was_asked(question: list[str], tmp_path: Path) -> None:
    assert CliRunner().invoke(compare, [*question, "--output", str(tmp_path / "out")]).exit_code == 0
    text = (tmp_path / "out" / "comparison.tex").read_text()
    assert r"\usepackage{booktabs}" in text
    assert r"\usepackage{xcolor}" in text
    assert "t=3" in text
    assert "t=2" not in text
    assert "better" in text
