"""Measures of robustness and of dynamics, by the name under which users import them; see `pcbench.analysis.metrics`."""

from pcbench.analysis.metrics import (
    confidence_over_time,
    corruption_errors,
    dynamics,
    error_rates,
    expected_calibration_error,
    group_means,
    mce,
    readouts,
    relative_mce,
    relative_to,
    speed_accuracy,
)

__all__ = [
    "confidence_over_time",
    "corruption_errors",
    "dynamics",
    "error_rates",
    "expected_calibration_error",
    "group_means",
    "mce",
    "readouts",
    "relative_mce",
    "relative_to",
    "speed_accuracy",
]
