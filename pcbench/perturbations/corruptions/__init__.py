"""The corruptions of ImageNet-C: a fast, reproducible engine and the public package as its reference."""

from pcbench.perturbations.corruptions.constants import (
    BENCHMARK_NAMES,
    EXTRA_NAMES,
    GROUPS,
    NAMES,
    SEVERITIES,
    Variant,
)
from pcbench.perturbations.corruptions.engine import BACKENDS, corrupt, corrupt_severities

__all__ = [
    "BACKENDS",
    "BENCHMARK_NAMES",
    "EXTRA_NAMES",
    "GROUPS",
    "NAMES",
    "SEVERITIES",
    "Variant",
    "corrupt",
    "corrupt_severities",
]
