"""Predify's Figure 2: the distance of a noisy image's representation from the clean one's, relative to t = 0."""

import pandas as pd
from matplotlib.figure import Figure

from pcbench.figures.manifold import manifold_figure, manifolds
from pcbench.figures.registry import PaperFigure, register
from pcbench.results.study import Study

SUITES = ("manifold",)


def draw(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """`manifold_figure` of the first system that has representations."""
    table = next((table for _, table in manifolds(study)), None)
    return None if table is None else manifold_figure(table)


register(PaperFigure("predify2021", "manifold", SUITES, 14, ("pefficientnet-lite0",), draw, "a run of suite manifold"))
