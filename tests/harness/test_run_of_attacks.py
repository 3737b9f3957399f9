"""A run with attacks from end to end: what it writes, that nothing but the request decides it, what it refuses."""

from pathlib import Path

import pandas as pd
import pytest

from pcbench.analysis.robustness import evidence_table
from pcbench.cli.app import main
from pcbench.config import RunConfig
from pcbench.errors import UserError
from pcbench.harness.run import RunResult, run

SUITE = """
name = "attacks"
version = 1
description = "small"

[[perturbations]]
kind = "clean"

[[perturbations]]
kind = "attack"
attack = "pgd"
options = { steps = 5 }
at = [0, "T/2", "T"]
epsilons = ["4/255", "64/255"]

[[perturbations]]
kind = "attack"
attack = "square"
options = { queries = 20 }
at = ["T"]
epsilons = ["4/255"]

[[perturbations]]
kind = "attack-probe"

[[perturbations]]
kind = "noise-control"
noises = ["uniform"]
epsilons = ["4/255"]
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    path = tmp_path / "attacks.toml"
    path.write_text(SUITE)
    return str(path)


def sweep(output: Path, suite: str, **more: object) -> RunResult:
    settings: dict[str, object] = {"workers": 0, "figures": False, "batch_size": 7} | more
    return run(model="template_models:template", suite=suite, data="samples", output=output, **settings)  # type: ignore[arg-type]


def test_a_run_of_attacks_ends_with_its_report_and_figures(tmp_path: Path, suite: str) -> None:
    result = sweep(tmp_path / "run", suite, figures=True)
    accuracy = pd.read_csv(tmp_path / "run" / "accuracy.csv")
    attacks = accuracy[accuracy["group"] == "attack"]
    aimed = set(zip(attacks["attack"], attacks["at"].astype(int), strict=True))
    assert aimed == {("pgd", 0), ("pgd", 1), ("pgd", 2), ("square", 2)}
    assert {"attack", "norm", "loss", "readout", "source"} <= set(result.records)
    evidence = pd.read_csv(tmp_path / "run" / "evidence.csv")
    assert evidence["verdict"].tolist() == evidence_table(result.study)["verdict"].tolist()
    robust = pd.read_csv(tmp_path / "run" / "robust-accuracy.csv")
    row = robust[robust["label"].str.startswith("pgd") & (robust["epsilon"] < 0.1) & (robust["timestep"] == 2)]
    of_pgd = result.records[result.records["attack"] == "pgd"]
    small = of_pgd[(of_pgd["at"].astype(int) == 2) & (of_pgd["severity"] < 0.1) & (of_pgd["timestep"] == 2)]
    assert row["correct"].tolist() == [small["correct"].sum()]
    assert {path.name for path in (tmp_path / "run" / "figures").glob("*.png")} >= {
        f"attacks-template_models-template-{name}.png" for name in ("matrix", "epsilons", "attacks")
    }


def test_batch_size_and_interruption_do_not_change_a_result(tmp_path: Path, suite: str) -> None:
    one = sweep(tmp_path / "one", suite)
    other = sweep(tmp_path / "other", suite, batch_size=20)
    columns = ["image", "perturbation", "severity", "timestep", "prediction", "attacked", "success", "distance"]
    pd.testing.assert_frame_equal(one.records[columns], other.records[columns])
    again = sweep(tmp_path / "one", suite)
    pd.testing.assert_frame_equal(one.records[columns], again.records[columns])
    assert one.records["attacked"].fillna(False).astype(bool).any()


def test_a_timestep_beyond_the_last_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "late.toml"
    path.write_text(SUITE.replace('"T/2"', "3"))
    with pytest.raises(UserError, match="the run ends at t = 2"):
        sweep(tmp_path / "run", str(path))
    assert not (tmp_path / "run").exists()


def test_a_negative_epsilon_is_one_line_and_exit_code_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "negative.toml"
    path.write_text(SUITE.replace('"64/255"', "-0.5"))
    words = ["run", "--model", "template_models:template", "--suite", str(path), "--output", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as code:
        main(words)
    assert code.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: suite attacks, attack pgd: epsilon is -0.5")
    assert not (tmp_path / "run").exists()


def test_the_command_that_goes_on_names_each_option_once() -> None:
    config = RunConfig.of(model="m", suite="adversarial", attack_gradient="truncated", output="out")
    words = config.words()
    assert config.overrides() == {kind: {"attack_gradient": "truncated"} for kind in ("attack", "attack-probe")}
    assert words[-4:] == ["--attack-gradient", "truncated", "--output", "out"]
    assert words.count("--attack-gradient") == 1
