"""Nayebi et al. 2022: accuracy over time of recurrent networks, and what decoders make of the same trajectories."""

import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.metrics import readouts
from pcbench.figures import style
from pcbench.figures.papers.common import Published, dynamic, shown
from pcbench.figures.registry import PaperFigure, register
from pcbench.intervals import wilson
from pcbench.results.study import Study

SUITES = ("clean",)


def draw(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """Lines: accuracy(t) with Wilson's interval. Markers: each decoder at its mean decision time."""
    systems = dynamic(study, SUITES)
    if not systems:
        return None
    figure = style.canvas(style.COLUMN, style.COLUMN * 0.9)
    ax = figure.subplots()
    rows = []
    shapes = {"last": "o", "cumulative": "s", "max-confidence": "^", "threshold": "D"}
    for index, (label, answers) in enumerate(systems):
        correct, n = answers.values.sum(axis=(0, 1)), answers.values.shape[0] * answers.values.shape[1]
        low, high = wilson(correct, n)
        curve = pd.DataFrame(
            {
                "model": label,
                "decoder": "",
                "timestep": answers.timesteps,
                "accuracy": 100 * correct / n,
                "low": 100 * low,
                "high": 100 * high,
            }
        )
        ax.plot(curve["timestep"], curve["accuracy"], color=style.colour(index), label=label)
        ax.fill_between(curve["timestep"], curve["low"], curve["high"], color=style.colour(index), alpha=0.15, lw=0)
        rows.append(curve)
        chosen = readouts(study.select(suite=answers.suite).systems()[answers.system])
        for row in chosen.to_dict("records"):
            ax.plot(
                row["timestep"],
                100 * row["accuracy"],
                shapes[row["readout"]],
                color=style.colour(index),
                markerfacecolor="none",  # decoders often agree: one must not hide another
                markersize=4.5,
                label=row["readout"] if index == 0 else None,
            )
        rows.append(
            pd.DataFrame(
                {
                    "model": label,
                    "decoder": chosen["readout"],
                    "timestep": chosen["timestep"],
                    "accuracy": 100 * chosen["accuracy"],
                }
            )
        )
    style.timestep_axis(ax, sorted({t for _, answers in systems for t in answers.timesteps}))
    ax.set_xlabel("timestep (markers: mean decision time)")
    style.percent_axis(ax)
    style.legend_below(figure)
    style.about(figure, *shown(systems, Published()))
    return figure, pd.concat(rows, ignore_index=True)


register(
    PaperFigure(
        "nayebi2022",
        "decoders",
        SUITES,
        6,
        ("convrnn-rgc-shallow-cifar",),
        draw,
        "a run of suite clean by a network with dynamics",
    )
)
