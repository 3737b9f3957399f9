"""The picture of what an update is made of: the share of each of its terms."""

import pandas as pd
from matplotlib.figure import Figure

from pcbench.figures import style

TERMS = ("feedforward", "feedback", "memory", "error")


def term_shares_figure(shares: pd.DataFrame) -> Figure:
    """One panel per PCoder, one line per term: its root mean square over that of e_n, at each timestep.

    Args:
        shares: as `pcbench.models.predictive.dynamics.term_shares` returns it. Terms that are zero are not drawn: the
            axis is logarithmic.
    """
    groups = list(shares.groupby("pcoder", sort=True))
    figure, panels = style.panels(len(groups))
    for axes, (pcoder, rows) in zip(panels, groups, strict=True):
        for index, term in enumerate(TERMS):
            drawn = rows[rows[term] > 0]
            axes.plot(drawn["timestep"], drawn[term], label=term, color=style.colour(index), marker=style.marker(index))
        axes.set_yscale("log")
        axes.set_title(f"PCoder {pcoder}, {rows['module'].iloc[0]}")
        style.timestep_axis(axes, list(rows["timestep"]))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(TERMS))
    figure.supxlabel("timestep")
    figure.supylabel("share of the update")
    return figure
