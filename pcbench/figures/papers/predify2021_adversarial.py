"""Predify's two adversarial figures: successes against epsilon, and the success rate against the timestep."""

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.attacks import successes
from pcbench.figures.adversarial import relative_successes, success_counts
from pcbench.figures.registry import PaperFigure, register
from pcbench.results.load import Run

SUITES = ("adversarial-predify2021",)
NEEDS = "a run of suite adversarial-predify2021 by a model with dynamics"


def _first(
    runs: Sequence[Run], draw: Callable[[pd.DataFrame], tuple[Figure, pd.DataFrame]]
) -> tuple[Figure, pd.DataFrame] | None:
    for run in runs:
        of_suite = run.records[run.records["suite"].isin(SUITES)]
        for _, part in of_suite.groupby("model", sort=False):
            if part["timestep"].nunique() > 1 and not successes(part).empty:
                return draw(part)
    return None


def draw_counts(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame] | None:
    """Successes against epsilon (log axis), a line for each attacked timestep."""
    return _first(runs, success_counts)


def draw_relative(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame] | None:
    """Success rate against timestep, shifted so that the feedforward value is 1, for the largest epsilons."""
    return _first(runs, relative_successes)


for _name, _draw in (("adversarial-successes", draw_counts), ("adversarial-relative", draw_relative)):
    register(PaperFigure("predify2021", _name, SUITES, 8, ("pefficientnet-lite0",), _draw, NEEDS))
