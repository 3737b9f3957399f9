"""Predify's mCE(t) / mCE(0): a ratio of means over corruptions and severities, relative to the feedforward pass."""

import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.statistics import interval
from pcbench.figures import style
from pcbench.figures.papers.common import dynamic, errors, relative
from pcbench.figures.registry import PaperFigure, register
from pcbench.results.study import Study

SUITES = ("imagenet-c-19", "imagenet-c", "cifar-c")


def draw(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """Error bars: a bootstrap over images, for each timestep its own.

    The published scripts resample the 19 corruptions instead, and reuse one bar at every timestep.
    """
    rows = []
    for label, answers in dynamic(study, SUITES):
        exact, replicates = (each.mean(axis=-2) for each in errors(answers))
        if exact[0] == 0:
            continue  # nothing can be divided by an error of 0
        low, high = interval(relative(replicates))
        rows.append(
            pd.DataFrame(
                {
                    "model": label,
                    "timestep": answers.timesteps,
                    "ratio": exact / exact[0],
                    "low": low,
                    "high": high,
                    "n": len(answers.images),
                }
            )
        )
    if not rows:
        return None
    figure = style.canvas()
    ax = figure.subplots()
    ax.axhline(1, color=style.BASELINE, linestyle=(0, (3, 2)), linewidth=0.9)
    for index, part in enumerate(rows):
        reach = [part["ratio"] - part["low"], part["high"] - part["ratio"]]
        ax.errorbar(
            part["timestep"] + 0.08 * index,
            part["ratio"],
            reach,
            color=style.colour(index),
            marker=style.marker(index),
            elinewidth=0.7,
            label=part["model"].iloc[0],
        )
    ax.set_ylabel("mCE(t) / mCE(0)")
    ax.set_xlabel("timestep")
    style.timestep_axis(ax, [int(t) for part in rows for t in part["timestep"]])
    figure.legend(loc="outside lower center", ncols=2)
    return figure, pd.concat(rows, ignore_index=True)


register(
    PaperFigure(
        "predify2021",
        "mce",
        SUITES,
        10,
        ("pefficientnet-lite0",),
        draw,
        "a run of suite imagenet-c-19 or imagenet-c by a model with dynamics",
    )
)
