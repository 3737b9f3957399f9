"""The speed-accuracy curve: what each further timestep buys."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from pcbench.figures import style


def speed_figure(table: pd.DataFrame, title: str) -> Figure:
    """Mean accuracy against multiply-accumulates of one answer, a point for each timestep, a line for each model.

    Args:
        table: rows of one suite, as `pcbench.analysis.speed.speed_of` returns them.
        title: what they are about.
    """
    figure = style.canvas()
    ax = figure.subplots()
    labelled = set()  # networks on one backbone begin at one point
    for index, (model, part) in enumerate(table.groupby("model", sort=False)):
        colour, marker = style.colour(index), style.marker(index)
        ax.plot(part["gmacs"], 100 * part["accuracy"], label=str(model), color=colour, marker=marker)
        rows = part.to_dict("records")
        for row, neighbour in ((rows[0], rows[1]), (rows[-1], rows[-2])) if len(rows) > 1 else ():
            point = row["timestep"], row["gmacs"], row["accuracy"]
            if point in labelled:
                continue
            labelled.add(point)
            below = neighbour["accuracy"] > row["accuracy"]  # away from the line
            ax.annotate(
                f"t = {row['timestep']}",
                (row["gmacs"], 100 * row["accuracy"]),
                textcoords="offset points",
                xytext=(0, -5 if below else 5),
                ha="center",
                va="top" if below else "bottom",
                fontsize=6,
            )
    ax.margins(y=0.18)  # room for the labels
    costs = table["gmacs"]
    if costs.max() > 2 * costs.min():
        _logarithmic(ax, math.log10(costs.max() / costs.min()))
    ax.set_xlabel("multiply-accumulates of one answer (1e9)")
    style.percent_axis(ax, "mean accuracy (%)")
    ax.set_title(title)
    style.legend_below(figure)
    return figure


def _logarithmic(ax: Axes, decades: float) -> None:
    """A logarithmic axis with plain numbers, as many of a decade as have room for their labels."""
    ax.set_xscale("log")
    room = {0.7: (1, 2, 3, 4, 6, 8), 1.1: (1, 2, 3, 5), 2.2: (1, 2, 5)}
    subs = next((subs for most, subs in room.items() if decades <= most), (1,))
    ax.xaxis.set_major_locator(LogLocator(subs=subs, numticks=5))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
