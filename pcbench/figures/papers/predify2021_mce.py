"""Predify's mCE(t) / mCE(0): a ratio of means over corruptions and severities, relative to the feedforward pass."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.ratios import ratio
from pcbench.figures import style
from pcbench.figures.papers.common import Floats, Published, dynamic, shown, wrong
from pcbench.figures.registry import PaperFigure, register
from pcbench.results.study import Study

SUITES = ("imagenet-c-19", "imagenet-c", "cifar-c")


PUBLISHED = Published(perturbations=19, timesteps=10)


def draw(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """Error bars: 95 % intervals over images, for each timestep its own (`pcbench.analysis.ratios`).

    The published scripts resample the 19 corruptions instead, and reuse one bar at every timestep.
    """
    rows, drawn, without = [], [], []
    for label, answers in dynamic(study, SUITES):
        errors = wrong(answers)
        found = ratio(errors, errors[:, :1], "ratio-of-means")
        if np.isnan(found.value).any():
            without.append(label)  # nothing can be divided by an error of 0
            continue
        limits = found.interval()
        part = {"model": label, "timestep": answers.timesteps, "ratio": found.value, "n": found.n}
        part |= {"low": but_start(limits.low, found.value), "high": but_start(limits.high, found.value)}
        part |= {"perturbations": len(errors)}
        rows.append(pd.DataFrame(part))
        drawn.append((label, answers))
    if not rows:
        return None
    figure = style.canvas()
    ax = figure.subplots()
    ax.axhline(1, color=style.BASELINE, linestyle=(0, (3, 2)), linewidth=0.9)
    for index, part_of in enumerate(rows):
        reach = [part_of["ratio"] - part_of["low"], part_of["high"] - part_of["ratio"]]
        ax.errorbar(
            part_of["timestep"] + 0.08 * index,
            part_of["ratio"],
            reach,
            color=style.colour(index),
            marker=style.marker(index),
            elinewidth=0.7,
            label=part_of["model"].iloc[0],
        )
    ax.set_ylabel("mCE(t) / mCE(0)")
    ax.set_xlabel("timestep")
    style.timestep_axis(ax, [int(t) for part_of in rows for t in part_of["timestep"]])
    style.legend_below(figure)
    style.about(figure, *shown(drawn, PUBLISHED), f"no errors at t = 0: {', '.join(without)}" if without else "")
    return figure, pd.concat(rows, ignore_index=True)


def but_start(limits: Floats, value: Floats) -> Floats:
    """Limits of ratios without those of t = 0, which is 1 by definition."""
    return np.concatenate([value[:1], limits[1:]])


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
