"""How far a noisy image's representation is from the clean one's, relative to t = 0."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.ratios import ratio_of_amounts
from pcbench.figures import style
from pcbench.results.study import Study, labels

_DISTANCE = "distance_"


def manifolds(study: Study) -> Iterator[tuple[str, pd.DataFrame]]:
    """(label, table for `manifold_figure`) of each system whose representations were compared with the clean ones."""
    names = labels(study.systems())
    for system, part in study.systems().items():
        tables = []
        for cell in part.cells:
            columns = [name for name in cell.columns if name.startswith(_DISTANCE)]
            for column in columns:
                values = cell.matrix(column)  # (T + 1, images)
                steps, count = values.shape
                tables.append(
                    pd.DataFrame(
                        {
                            "model": f"{names[system]} [{system.model.weights}], {system.data.name}, n = {count}",
                            "severity": cell.key.condition.severity,
                            "pcoder": int(column.removeprefix(_DISTANCE)),
                            "image": np.tile(np.arange(count), steps),
                            "timestep": np.repeat(np.arange(steps), count),
                            "distance": values.reshape(-1),
                        }
                    )
                )
        if tables:
            yield names[system], pd.concat(tables, ignore_index=True)


def manifold_figure(records: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """A panel for each sigma, a line for each PCoder: the mean distance over images divided by that at t = 0.

    The correlation distance is 1 - Pearson's r over all units; intervals are over images
    (`pcbench.analysis.ratios.ratio_of_amounts`).

    Args:
        records: of one system, see `manifolds`: model, image, severity (sigma), pcoder, timestep,
            distance.

    Returns:
        The figure, and a row for each point: sigma, pcoder, timestep, ratio, low, high, n.
    """
    rows = []
    for (sigma, pcoder), part in records.groupby(["severity", "pcoder"]):
        wide = part.pivot_table(index="image", columns="timestep", values="distance")
        amounts = wide.to_numpy().T
        found = ratio_of_amounts(amounts, amounts[:1])
        rows.append(
            pd.DataFrame(
                {
                    "sigma": sigma,
                    "pcoder": pcoder,
                    "timestep": wide.columns,
                    "ratio": found.value,
                    "low": found.low,
                    "high": found.high,
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
    axes[0].set_ylabel("correlation distance,\nrelative to t = 0")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(str(records["model"].iloc[0]))
    return figure, table
