"""`pcbench corrupt`: copies and contact sheets, and one line for what cannot be."""

import json

import numpy as np
import pytest
from PIL import Image

from pcbench.cli.app import main


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main(["corrupt", *map(str, words)])
    return stop.value.code


def test_a_copy_has_one_file_for_each_image_and_condition(tmp_path, capsys):
    words = ("--data", "samples", "--limit", 2, "--output", tmp_path / "copy", "--name", "fog", "--size", 64)
    assert run(*words) == 0
    manifest = json.loads((tmp_path / "copy" / "manifest.json").read_text())
    assert len(manifest["files"]) == 10
    assert Image.open(tmp_path / "copy" / next(iter(manifest["files"]))).size == (64, 64)
    assert run(*words) == 0
    assert json.loads((tmp_path / "copy" / "manifest.json").read_text()) == manifest
    capsys.readouterr()
    assert run(*words, "--seed", 1) == 2
    assert "other settings (seed)" in capsys.readouterr().err


def test_a_contact_sheet_is_drawn(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "i.png")
    assert run("--preview", tmp_path / "i.png", "--output", tmp_path / "sheet.png") == 0
    assert min(Image.open(tmp_path / "sheet.png").size) > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "samples", "--output", "x", "--name", "fogg"], "did you mean fog?"),
        (["--data", "samples", "--output", "x", "--severity", "6"], "from 1 to 5"),
        (["--data", "samples", "--output", "x", "--format", "jpg"], "did you mean jpeg"),
        (["--data", "samples"], "--output DIR"),
        (["--output", "x"], "--data"),
        (["--preview", "missing.png"], "no image missing.png"),
    ],
)
def test_bad_input_writes_nothing(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
