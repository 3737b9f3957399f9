"""Predify's 5 x 4 grid: CE(t) / CE(0) of each corruption, over all severities, not the fifth alone."""

import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.statistics import interval
from pcbench.figures import style
from pcbench.figures.papers.common import dynamic, errors, relative
from pcbench.figures.papers.predify2021_mce import SUITES
from pcbench.figures.registry import PaperFigure, register
from pcbench.figures.run import readable
from pcbench.results.study import Study


def draw(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """A panel for each corruption, a line for each network, intervals from a bootstrap over images."""
    rows = []
    for label, answers in dynamic(study, SUITES):
        exact, replicates = errors(answers)
        for index, name in enumerate(answers.perturbations()):
            if exact[index, 0] == 0:
                continue  # nothing can be divided by an error of 0
            low, high = interval(relative(replicates[:, index]))
            rows.append(
                pd.DataFrame(
                    {
                        "model": label,
                        "perturbation": name,
                        "timestep": answers.timesteps,
                        "ratio": exact[index] / exact[index, 0],
                        "low": low,
                        "high": high,
                    }
                )
            )
    if not rows:
        return None
    table = pd.concat(rows, ignore_index=True)
    names, models = table["perturbation"].unique(), table["model"].unique()
    figure, axes = style.panels(len(names), columns=4)
    for name, ax in zip(names, axes, strict=True):
        ax.axhline(1, color=style.BASELINE, linestyle=(0, (3, 2)), linewidth=0.8)
        for index, model in enumerate(models):
            part = table[(table["perturbation"] == name) & (table["model"] == model)]
            reach = [part["ratio"] - part["low"], part["high"] - part["ratio"]]
            ax.errorbar(
                part["timestep"],
                part["ratio"],
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
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
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
