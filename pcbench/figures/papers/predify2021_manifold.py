"""Predify's Figure 2: the distance of a noisy image's representation from the clean one's, relative to t = 0."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from pcbench.figures.manifold import manifold_figure
from pcbench.figures.registry import PaperFigure, register
from pcbench.results.load import Run

SUITES = ("manifold",)


def draw(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame] | None:
    """`manifold_figure` of the first model that has representations."""
    loaded = [run.extra("representations") for run in runs]  # noqa: S610 - not Django's
    tables = [table for table in loaded if not table.empty]
    if not tables:
        return None
    return manifold_figure(tables[0][tables[0]["model"] == tables[0]["model"].iloc[0]])


register(PaperFigure("predify2021", "manifold", SUITES, 14, ("pefficientnet-lite0",), draw, "a run of suite manifold"))
