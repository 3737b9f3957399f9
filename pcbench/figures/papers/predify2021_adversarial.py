"""Predify's two adversarial figures: successes against epsilon, and the success rate against the timestep."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.attacks import successes
from pcbench.analysis.robustness import attacked_systems
from pcbench.figures.adversarial import relative_successes, success_counts
from pcbench.figures.registry import PaperFigure, register
from pcbench.results.study import Study

SUITES = ("adversarial-predify2021",)
NEEDS = "a run of suite adversarial-predify2021 by a model with dynamics"


def _first(
    study: Study, draw: Callable[[pd.DataFrame], tuple[Figure, pd.DataFrame]]
) -> tuple[Figure, pd.DataFrame] | None:
    for suite, _, records in attacked_systems(study):
        if suite in SUITES and records["timestep"].nunique() > 1 and not successes(records).empty:
            return draw(records)
    return None


def draw_counts(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """Successes against epsilon (log axis), a line for each attacked timestep."""
    return _first(study, success_counts)


def draw_relative(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """Success rate against timestep, shifted so that the feedforward value is 1, for the largest epsilons."""
    return _first(study, relative_successes)


for _name, _draw in (("adversarial-successes", draw_counts), ("adversarial-relative", draw_relative)):
    register(PaperFigure("predify2021", _name, SUITES, 8, ("pefficientnet-lite0",), _draw, NEEDS))
