"""Corrupted copies on disk, end to end: written by the command, swept by the command, and partial ones refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pcbench.cli.app import main
from pcbench.results.study import load_results

TINY = ("--model", "tiny_models:tiny")
SMALL = ("--model", "convrnn-timedecay-shallow-cifar", "--weights", "random", "--timesteps", "1", "--limit", "10")
HOW = ("--workers", "0", "--no-figures", "--quiet")
CIFAR = """
name = "cifar-some"
version = 1
description = "two corruptions on disk"

[[perturbations]]
kind = "corruption"
names = ["fog", "contrast"]
"""


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images under the 15 corruptions at five severities."""
    root = tmp_path_factory.mktemp("copies") / "copy"
    words = ("corrupt", "--data", "samples", "--limit", 2, "--size", 32, "--variant", "imagenet-c", "--format", "png")
    assert command(*words, "--output", root) == 0
    return root


def test_a_complete_copy_is_swept(copy: Path, tmp_path: Path) -> None:
    assert len(json.loads((copy / "manifest.json").read_text())["files"]) == 2 * 75
    assert command("run", *TINY, *HOW, "--suite", "imagenet-c", "--data", copy, "--output", tmp_path / "run") == 0
    study = load_results(tmp_path / "run")
    accuracy = pd.read_csv(tmp_path / "run" / "accuracy.csv")
    assert study.status_of(study.requests[0]) == "complete"
    assert {(cell.key.data.name, cell.key.data.n) for cell in study.cells} == {("copy", 2)}
    assert len(study.cells) == 75  # a copy has no clean images
    assert accuracy.groupby("perturbation")["severity"].nunique().eq(5).all()
    assert accuracy["perturbation"].nunique() == 15
    assert (accuracy["n"] == 2).all()


def test_a_copy_with_a_folder_missing_is_refused_in_one_line(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = tmp_path / "partial"
    shutil.copytree(copy, partial)
    shutil.rmtree(partial / "frost" / "4")
    words = ("run", *TINY, *HOW, "--suite", "imagenet-c", "--data", partial, "--output", tmp_path / "run")
    assert command(*words) == 2
    assert capsys.readouterr().err.strip() == "error: data partial has no severity 4 of frost"
    shutil.rmtree(partial / "snow")
    assert command(*words) == 2
    assert "data partial has no snow" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_arrays_of_cifar_10_c_are_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "CIFAR-10-C"
    root.mkdir()
    np.save(root / "labels.npy", np.tile(np.arange(10_000, dtype=np.uint8) % 10, 5))
    shape = (50_000, 32, 32, 3)
    for name in ("fog", "contrast"):
        np.lib.format.open_memmap(root / f"{name}.npy", mode="w+", dtype=np.uint8, shape=shape).flush()
    suite = tmp_path / "some.toml"
    suite.write_text(CIFAR)
    words = ("run", *SMALL, *HOW, "--suite", suite, "--data", root)
    assert command(*words, "--output", tmp_path / "run") == 0
    accuracy = pd.read_csv(tmp_path / "run" / "accuracy.csv")
    assert len(accuracy) == 2 * 5 * 2  # corruptions x severities x timesteps
    assert set(accuracy["severity"]) == {1, 2, 3, 4, 5}
    capsys.readouterr()
    (root / "contrast.npy").unlink()
    assert command(*words, "--output", tmp_path / "other") == 2
    assert "data CIFAR-10-C has no contrast" in capsys.readouterr().err
