"""A small suite that a sweep gets through in a second."""

from pathlib import Path

import pytest

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
