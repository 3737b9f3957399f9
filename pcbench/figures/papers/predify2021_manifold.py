"""Predify's Figure 2: the distance of a noisy image's representation from the clean one's, relative to t = 0."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.statistics import bootstrap, interval
from pcbench.figures import style
from pcbench.figures.registry import PaperFigure, register
from pcbench.results.load import Run

SUITES = ("manifold",)


def draw(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame] | None:
    """A panel for each sigma, a line for each PCoder: the mean distance over images divided by that at t = 0.

    The correlation distance is 1 - Pearson's r over all units; intervals are from a bootstrap over images. Of several
    models, the first.
    """
    loaded = [run.extra("representations") for run in runs]  # noqa: S610 - not Django's
    tables = [table for table in loaded if not table.empty]
    if not tables:
        return None
    records = tables[0][tables[0]["model"] == tables[0]["model"].iloc[0]]
    rows = []
    for (sigma, pcoder), part in records.groupby(["severity", "pcoder"]):
        wide = part.pivot_table(index="image", columns="timestep", values="distance")
        means, replicates = wide.mean().to_numpy(), bootstrap(wide.to_numpy())
        low, high = interval(replicates / replicates[:, :1])
        rows.append(
            pd.DataFrame(
                {
                    "sigma": sigma,
                    "pcoder": pcoder,
                    "timestep": wide.columns,
                    "ratio": means / means[0],
                    "low": low,
                    "high": high,
                    "n": len(wide),
                }
            )
        )
    table = pd.concat(rows, ignore_index=True)
    sigmas, coders = sorted(table["sigma"].unique()), sorted(table["pcoder"].unique())
    figure, axes = style.panels(len(sigmas), columns=5, height=1.9)
    for sigma, ax in zip(sigmas, axes, strict=True):
        ax.axhline(1, color=style.BASELINE, linestyle=(0, (3, 2)), linewidth=0.8)
        for shade, coder in zip(style.shades(len(coders)), coders, strict=True):
            part = table[(table["sigma"] == sigma) & (table["pcoder"] == coder)]
            ax.plot(part["timestep"], part["ratio"], color=shade, label=f"PCoder {coder}")
            ax.fill_between(part["timestep"], part["low"], part["high"], color=shade, alpha=0.12, lw=0)
        ax.set_title(f"σ = {sigma:g}")
        ax.set_xlabel("timestep")
        style.timestep_axis(ax, sorted(table["timestep"].unique()))
    axes[0].set_ylabel("correlation distance, relative to t = 0")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(str(records["model"].iloc[0]))
    return figure, table


register(PaperFigure("predify2021", "manifold", SUITES, 14, ("pefficientnet-lite0",), draw, "a run of suite manifold"))
