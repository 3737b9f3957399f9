"""Predify's Gaussian-noise figure: accuracy against timestep, a line for each noise level, a panel for each network."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pcbench.figures import style
from pcbench.figures.papers.common import Published, dynamic, shown
from pcbench.figures.registry import PaperFigure, register
from pcbench.figures.run import cell_accuracies
from pcbench.results.study import Study

SUITES = ("gaussian-noise",)


def draw(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """Noise is added after normalisation; sigma in units of the normalised image."""
    systems = dynamic(study, SUITES)
    if not systems:
        return None
    figure, axes = style.panels(len(systems), height=2.2, sharex=False)  # T differs: no curve is cut off
    tables = []
    for (label, answers), ax in zip(systems, axes, strict=True):
        table = cell_accuracies(answers).assign(model=label)
        levels = sorted(table["severity"].unique())
        for shade, sigma in zip(style.shades(len(levels)), levels, strict=True):
            part = table[table["severity"] == sigma]
            reach = np.abs(part[["ci_low", "ci_high"]].to_numpy().T - part["accuracy"].to_numpy())
            ax.errorbar(
                part["timestep"], part["accuracy"], reach, color=shade, marker="o", elinewidth=0.5, label=f"{sigma:g}"
            )
        ax.set_title(style.fold(label, 30))
        ax.set_xlabel("timestep")
        style.timestep_axis(ax, answers.timesteps)
        tables.append(table)
    style.percent_axis(axes[0])
    figure.legend(*axes[0].get_legend_handles_labels(), title="σ", loc="outside right center")
    style.about(figure, *shown(systems, Published()))
    return figure, pd.concat(tables, ignore_index=True)


register(
    PaperFigure(
        "predify2021",
        "gaussian-noise",
        SUITES,
        10,
        ("pefficientnet-lite0",),
        draw,
        "a run of suite gaussian-noise by a model with dynamics",
    )
)
