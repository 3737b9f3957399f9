"""Configurations, graphs, suites and tuned hyperparameters: text files that people write and share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mutations import survive
from torch import nn

from pcbench.models.convrnn.graph import make_graph, read_graph
from pcbench.models.predictive.config import read_config
from pcbench.models.predictive.expressions import parse_predictor
from pcbench.models.predictive.network import PredictiveNet
from pcbench.models.shipped import tuned_values
from pcbench.suites.registry import read_suite

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]

Reading = Callable[[str, Callable[[Path], object]], Callable[[bytes], object]]

CONFIG = b"""name = "net"
gradient_scaling = true
shared_hyperparameters = false
input_size = [3, 8, 8]
imports = ["import torch"]
[[pcoders]]
module = "[0]"
predictor = "ConvTranspose2d(4, 3, 4, stride=(2, 2), padding=1)"
hyperparameters = {feedforward=0.2, feedback=0.1, pc=0.01}
[[pcoders]]
module = "2"
predictor = "Sequential(Upsample(scale_factor=2), nn.Conv2d(5, 4, 3, padding=1), ReLU())"
"""
BARE = b'[[pcoders]]\nmodule="[0]"\n[[pcoders]]\nmodule="[2]"\n'

SUITE = b"""name = "x"
version = 1
description = "d"
timesteps = 3
[[perturbations]]
kind = "clean"
[[perturbations]]
kind = "noise"
sigma = [0.5, 2.0]
[[perturbations]]
kind = "corruption"
names = ["fog"]
severities = [1, 5]
"""
ATTACKS = b"""name = "a"
version = 2
description = ""
[[perturbations]]
kind = "attack"
attack = "pgd"
options = { steps = 8 }
at = [0, "T/2", "T"]
epsilons = ["1/2040", 0.25]
[[perturbations]]
kind = "attack-probe"
at = ["T"]
"""

GRAPH = b"""name = "g"
description = "d"
timesteps = 2
cells = {ff = "rgc"}
[[nodes]]
name = "a"
channels = 4
cell = true
[[nodes]]
name = "b"
readout = "linear"
[[edges]]
from = "a"
to = "b"
[[edges]]
from = "b"
to = "a"
role = "feedback"
[geometry.cifar.a]
stride = 2
"""

TUNED = b"""model = "m"
scaling = "kc"
timesteps = 4
[options]
feedforward = "0.1,0.2"
feedback = "0.3"
[tuning]
data = "images"
"""


def test_configurations_and_their_predictors(reading: Reading) -> None:
    def configuration(path: Path) -> None:
        for pcoder in read_config(path).pcoders:
            if pcoder.predictor is not None:
                parse_predictor(pcoder.predictor)

    survive(reading("net.toml", configuration), [CONFIG, BARE])


def test_networks_of_configurations(reading: Reading) -> None:
    def network(path: Path) -> PredictiveNet:
        config = read_config(path)
        return PredictiveNet(
            nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 5, 3, 2, 1), nn.Flatten()), config
        )

    survive(reading("net.toml", network), [CONFIG, BARE], count=1_000)


def test_suites(reading: Reading) -> None:
    survive(reading("x.toml", lambda path: read_suite(path).digest()), [SUITE, ATTACKS])


def test_graphs(reading: Reading) -> None:
    survive(reading("graph.toml", lambda path: make_graph(read_graph(path), "ff", "cifar").cone(2)), [GRAPH])


def test_tuned_hyperparameters(reading: Reading) -> None:
    survive(reading("m.toml", lambda path: tuned_values("m", path.parent)), [TUNED])
