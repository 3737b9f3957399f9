"""The files in examples/ do what they say."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.documentation.blocks import ROOT, environment

EXAMPLES = ROOT / "examples"


def run(folder: Path, name: str, *arguments: str) -> str:
    """Run an example in a folder; what it printed."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder / "bin"), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_timm_network_becomes_predictive(tmp_path: Path) -> None:
    assert run(tmp_path, "predify_timm.py").count("t = ") == 4


@pytest.mark.slow
def test_an_attack_at_every_timestep(tmp_path: Path) -> None:
    assert run(tmp_path, "attack_every_timestep.py", "4").count("aimed at t = ") == 4


def test_a_folder_of_pictures_is_corrupted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.fromarray(np.full((40, 30, 3), 90, np.uint8)).save(tmp_path / "in" / f"{name}.jpg")
    assert "2 pictures with fog of severity 2" in run(tmp_path, "corrupt_folder.py", "in", "out", "fog", "2")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


@pytest.mark.slow
def test_two_runs_are_compared(tmp_path: Path) -> None:
    for name, seed in (("first", "0"), ("second", "1")):
        command = f"pcbench run --model pvgg16-cifar --suite clean --seed {seed} --output {name} --no-figures --quiet"
        subprocess.run(command.split(), cwd=tmp_path, env=environment(tmp_path / "bin"), check=True, timeout=300)
    said = run(tmp_path, "compare_runs.py", "first", "second")
    assert "1 conditions" in said
    assert "pvgg16-cifar" in said


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "first_figure.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (tmp_path / "notebook.py").write_text(code)
    shell = environment(tmp_path / "bin")
    done = subprocess.run(
        [sys.executable, "notebook.py"], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "first.png").stat().st_size > 10_000


@pytest.mark.skipif(sys.platform == "win32", reason="for a POSIX shell")
def test_a_slurm_part_that_is_stopped_keeps_what_it_has_and_queues_again(tmp_path: Path) -> None:
    import signal
    import time

    shell = environment(tmp_path / "bin")
    # a run that says when it has begun, and ends on SIGTERM as pcbench does; and a scheduler that notes what it is told
    (tmp_path / "bin" / "pcbench").write_text(
        '#!/bin/bash\necho "$@" > arguments\ntrap "echo kept > kept; exit 143" TERM\nwhile :; do sleep 0.05; done\n'
    )
    (tmp_path / "bin" / "scontrol").write_text('#!/bin/bash\necho "$@" > requeued\n')
    for name in ("pcbench", "scontrol"):
        (tmp_path / "bin" / name).chmod(0o755)
    shell |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "64"}
    shell |= {"PCBENCH_IMAGENET": "images"}
    with subprocess.Popen(["bash", str(EXAMPLES / "slurm_array.sh")], cwd=tmp_path, env=shell) as job:
        while not (tmp_path / "arguments").exists():
            time.sleep(0.02)
        time.sleep(0.1)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=20) == 143
    assert (tmp_path / "kept").exists()
    assert (tmp_path / "requeued").read_text().split() == ["requeue", "7_3"]
    assert "--shard 3/64" in (tmp_path / "arguments").read_text()
