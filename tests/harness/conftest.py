"""A small suite that a sweep gets through in a second, and a small Ray."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from clusters import TWO

from pcbench.harness.ray_cluster import connected

SUITE = """
name = "small"
version = 1
description = "a few conditions"

[[perturbations]]
kind = "clean"

[[perturbations]]
kind = "noise"
sigma = [0.5, 2.0]

[[perturbations]]
kind = "corruption"
names = ["contrast", "impulse_noise"]
severities = [1, 3]
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(SUITE)
    return str(path)


@pytest.fixture(scope="module")
def ray_of_two() -> Iterator[None]:
    """One Ray for several runs; that a run starts and stops its own is a test of its own."""
    with connected(TWO, torch.device("cpu")):
        yield
