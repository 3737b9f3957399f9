"""The plug-in of examples/plugin, installed as a user would install it, and swept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMAND = "from pcbench.cli.app import main; main()"
SUITE = """
name = "example"
version = 1
description = "What the plug-in brings."

[[perturbations]]
kind = "clean"

[[perturbations]]
kind = "corruption"
names = ["example-stripes"]
severities = [1, 5]

[[perturbations]]
kind = "attack"
attack = "example-sign"
epsilons = ["8/255"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package."""
    target = tmp_path_factory.mktemp("installed")
    source = tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", str(ROOT / "examples" / "plugin"), str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    return target


def pcbench(installed: Path, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)]), "COLUMNS": "80"}
    command = [sys.executable, "-c", COMMAND, *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder or installed, check=False
    )


@pytest.mark.parametrize("thing", ["example-net", "example-stripes", "example-sign", "example-colours"])
def test_everything_that_the_example_brings_conforms(installed: Path, thing: str) -> None:
    done = pcbench(installed, "check", thing)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " NO " not in done.stdout


def test_the_example_is_listed(installed: Path) -> None:
    assert "example-net" in pcbench(installed, "models").stdout
    assert "example-colours" in pcbench(installed, "data").stdout


def test_the_example_is_swept(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "example.toml").write_text(SUITE)
    words = ["run", "--model", "example-net", "--suite", "example.toml", "--data", "example-colours", "--workers", "0"]
    done = pcbench(installed, *words, "--device", "cpu", "--output", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    import pandas as pd

    table = pd.read_csv(tmp_path / "out" / "accuracy.csv")
    assert set(table["model"]) == {"example-net"}
    assert set(table["timestep"]) == {0, 1, 2, 3}
    assert set(table["severity"].round(4)) == {0.0, 1.0, 5.0, round(8 / 255, 4)}
    assert float(table[table["severity"] == 0]["accuracy"].min()) > 0.9
