"""Predify's 5 x 4 grid: CE(t) / CE(0) of each corruption, over all severities, not the fifth alone."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.ratios import ratio
from pcbench.figures import style
from pcbench.figures.papers.common import dynamic, shown, wrong
from pcbench.figures.papers.predify2021_mce import PUBLISHED, SUITES, but_start
from pcbench.figures.registry import PaperFigure, register
from pcbench.figures.run import readable
from pcbench.results.study import Study


def draw(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """A panel for each corruption, a line for each network, 95 % intervals over images (`pcbench.analysis.ratios`)."""
    rows, drawn, without = [], [], []
    for label, answers in dynamic(study, SUITES):
        errors = wrong(answers)
        for index, name in enumerate(answers.averaged()):
            found = ratio(errors[index][None], errors[index][None, :1], "ratio-of-means")
            if np.isnan(found.value).any():
                without.append(f"{readable(name)} of {label}")  # nothing can be divided by an error of 0
                continue
            limits = found.interval()
            part: dict[str, Any] = {
                "model": label,
                "perturbation": name,
                "timestep": answers.timesteps,
                "ratio": found.value,
            }
            part |= {"low": but_start(limits.low, found.value), "high": but_start(limits.high, found.value)}
            part |= {"n": found.n}
            rows.append(pd.DataFrame(part))
        drawn.append((label, answers))
    if not rows:
        return None
    table = pd.concat(rows, ignore_index=True)
    names, models = table["perturbation"].unique(), table["model"].unique()
    figure, axes = style.panels(len(names), columns=4)
    for name, ax in zip(names, axes, strict=True):
        ax.axhline(1, color=style.BASELINE, linestyle=(0, (3, 2)), linewidth=0.8)
        for index, model in enumerate(models):
            part_of = table[(table["perturbation"] == name) & (table["model"] == model)]
            reach = [part_of["ratio"] - part_of["low"], part_of["high"] - part_of["ratio"]]
            ax.errorbar(
                part_of["timestep"],
                part_of["ratio"],
                reach,
                color=style.colour(index),
                marker=style.marker(index),
                markersize=2,
                elinewidth=0.6,
                label=model,
            )
        ax.set_title(readable(str(name)))
        style.timestep_axis(ax, sorted(table["timestep"].unique()))
    for ax in axes[::4]:
        ax.set_ylabel("CE(t) / CE(0)")
    for ax in axes[-4:]:
        ax.set_xlabel("timestep")
    style.legend_below(figure)
    style.about(figure, *shown(drawn, PUBLISHED), f"no errors at t = 0: {', '.join(without)}" if without else "")
    return figure, table


register(
    PaperFigure(
        "predify2021",
        "ce-grid",
        SUITES,
        10,
        ("pefficientnet-lite0",),
        draw,
        "a run of suite imagenet-c-19 or imagenet-c by a model with dynamics",
    )
)
