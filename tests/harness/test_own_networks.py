"""A user's own network and suite: edited, it is another one; and what was asked can be repeated from run.json alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch import Tensor

from pcbench.keys import Condition, read_key
from pcbench.results.requests import read_requests
from pcbench.results.study import load_results

NETWORK = """
import torch
from torch import nn

import pcbench
from parts import scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 10 * 48).sin().reshape(10, 48))

    def forward(self, x, timesteps):
        seen = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return torch.stack([(seen * scale(t)) @ self.weight.T for t in range(timesteps + 1)])


@pcbench.network(size=32, classes="cifar10", normalises=True, timesteps=1)
def net():
    return Net()
"""
PARTS = "def scale(t):\n    return 1 - 2 * t\n"
SUITE = """
name = "own"
version = 3
description = "of my own"

[[perturbations]]
kind = "noise"
sigma = [0.1234567890123, 0.5]
"""
PROGRAM = """
import sys
import pcbench
result = pcbench.run(model=sys.argv[1], suite="own.toml", data="samples-cifar10", output="run", limit=4, workers=0,
                     figures=False)
print(len(result.study.cells))
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "mymodel.py").write_text(NETWORK)
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "own.toml").write_text(SUITE)
    return tmp_path


def ran(home: Path, model: str = "mymodel:net") -> int:
    """In a process of its own, as a user who edits a file does. The number of cells of the result."""
    import os

    paths = [str(home), str(Path(sys.modules["pcbench"].__file__ or "").parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, model],
        cwd=home, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_an_edited_network_is_another_one_and_its_cells_are_never_mixed(home: Path) -> None:
    assert ran(home) == 2
    first = load_results(home / "run")
    (system,) = first.systems()
    assert len(system.model.source) == 64
    assert len(system.model.checksum) == 64
    # what it computes, in a file that it imports: the parameters stay the same
    (home / "parts.py").write_text(PARTS.replace("1 - 2 * t", "1 + 2 * t"))
    assert ran(home) == 2
    # what it holds
    (home / "mymodel.py").write_text(NETWORK.replace(".sin()", ".cos()"))
    assert ran(home) == 2
    study = load_results(home / "run")
    systems = list(study.systems())
    assert len(study.cells) == 3 * 2
    assert len({each.model.source for each in systems}) == 3
    assert [each.model.checksum for each in systems].count(system.model.checksum) == 2
    assert len(study.requests) == 3
    for part in study.systems().values():
        assert len(part.cells) == 2
    with pytest.raises(Exception, match=r"3 match: .*; say which"):
        study.system(model="mymodel:net")
    # as it was, it is as it was
    (home / "mymodel.py").write_text(NETWORK)
    (home / "parts.py").write_text(PARTS)
    before = {path: path.stat().st_mtime_ns for path in (home / "run" / "records").iterdir()}
    assert ran(home) == 2
    assert {path: path.stat().st_mtime_ns for path in (home / "run" / "records").iterdir()} == before


@pytest.mark.slow
def test_a_suite_of_ones_own_can_be_repeated_from_run_json_alone(home: Path) -> None:
    from pcbench.harness.verify import verify

    ran(home)
    (home / "own.toml").unlink()
    (request,) = read_requests(home / "run").requests
    (suite,) = request.suites
    assert (suite.name, suite.version) == ("own", 3)
    keys = [read_key(Condition, condition) for condition in suite.conditions]
    assert [key.severity for key in keys] == [0.1234567890123, 0.5]
    assert json.loads(keys[0].text) == suite.conditions[0]
    assert request.asked["suite"] == ["own.toml"]
    sys.path.insert(0, str(home))
    try:
        findings = list(verify(home / "run", rerun=2, trust=("mymodel",)))
    finally:
        sys.path.remove(str(home))
        for name in ("mymodel", "parts"):
            sys.modules.pop(name, None)
    assert [finding.verdict for finding in findings if finding.what == "rerun"] == ["ok", "ok"]
    assert {finding.verdict for finding in findings} == {"ok"}


def test_networks_that_differ_in_a_number_of_theirs_have_keys_of_their_own(tmp_path: Path) -> None:
    from torch import nn

    import pcbench

    class Scaled(nn.Module):
        def __init__(self, gain: float) -> None:
            super().__init__()
            self.gain = gain
            self.layer = nn.Linear(3, 1000)
            nn.init.ones_(self.layer.weight)
            nn.init.constant_(self.layer.bias, 0.5)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.gain * self.layer(images.mean((2, 3)))
            return logits

    declare = pcbench.network(size=32, resize=32, classes="imagenet", normalises=True)
    for gain in (1.0, -1.0, 1.0):
        pcbench.run(
            model=declare(Scaled(gain)), data="samples", limit=2, suite="clean", output=tmp_path / "run", workers=0
        )
    assert len(load_results(tmp_path / "run").cells) == 2
