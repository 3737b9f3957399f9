"""The speed-accuracy curve: what each further timestep buys."""

import pandas as pd
from matplotlib.figure import Figure

from pcbench.figures import style


def speed_figure(table: pd.DataFrame, suite: str) -> Figure:
    """Mean accuracy against multiply-accumulates of one answer, a point for each timestep, a line for each model.

    Args:
        table: as `pcbench.analysis.speed.speed_of` returns it.
        suite: one of the suites in it.
    """
    figure = style.canvas()
    ax = figure.subplots()
    for index, (model, part) in enumerate(table[table["suite"] == suite].groupby("model", sort=False)):
        colour, marker = style.colour(index), style.marker(index)
        ax.plot(part["gmacs"], 100 * part["accuracy"], label=str(model), color=colour, marker=marker)
        for row in part.iloc[[0, -1]].to_dict("records") if len(part) > 1 else ():
            place = row["gmacs"], 100 * row["accuracy"]
            label = f"t = {row['timestep']}"
            ax.annotate(label, place, textcoords="offset points", xytext=(0, 5), ha="center", fontsize=6)
    costs = table.loc[table["suite"] == suite, "gmacs"]
    if costs.max() > 2 * costs.min():  # labels of a logarithmic axis need room
        ax.set_xscale("log")
    ax.set_xlabel("multiply-accumulates of one answer (1e9)")
    style.percent_axis(ax, "mean accuracy (%)")
    ax.set_title(suite)
    style.legend_below(figure)
    return figure
