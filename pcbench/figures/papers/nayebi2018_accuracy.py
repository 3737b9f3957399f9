"""Nayebi et al. 2018 and 2022: accuracy over time, a panel for each graph, a line for each recurrent cell."""

import re
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.answers import Answers
from pcbench.figures import style
from pcbench.figures.papers.common import Published, dynamic, shown
from pcbench.figures.registry import PaperFigure, register
from pcbench.figures.run import cell_accuracies
from pcbench.results.study import Study

SUITES = ("clean",)
_NAME = re.compile(r"convrnn-(?P<cell>.+?)-(?P<graph>shallow|intermediate)")

# Reported top-1 accuracies (percent) of ImageNet at the last timestep: the README of the networks of the 2022 paper.
PUBLISHED = {
    "shallow": {
        "timedecay": 50.06,
        "simplernn": 61.11,
        "gru": 62.16,
        "lstm": 63.43,
        "intersectionrnn": 65.42,
        "ugrnn": 60.82,
        "rgc": 66.97,
    },
    "intermediate": {
        "timedecay": 67.52,
        "simplernn": 70.47,
        "gru": 69.81,
        "lstm": 69.57,
        "intersectionrnn": 68.98,
        "ugrnn": 69.78,
        "rgc": 73.0,
    },
}


def cell_and_graph(answers: Answers) -> tuple[str, str] | None:
    """The names "rgc" and "shallow" of convrnn-rgc-shallow-cifar; None for a network of another family."""
    found = _NAME.match(answers.system.model.name)
    return (found["cell"], found["graph"]) if found else None


def draw(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """Accuracy with Wilson's interval at each t; hollow: published, at T, where the images are those of ImageNet."""
    systems = [(label, answers) for label, answers in dynamic(study, SUITES) if cell_and_graph(answers)]
    if not systems:
        return None
    places = [cell_and_graph(answers) or ("", "") for _, answers in systems]
    graphs = list(dict.fromkeys(graph for _, graph in places))
    figure, axes = style.panels(len(graphs), height=2.2, sharex=False)
    rows = []
    for index, ((label, answers), (cell, graph)) in enumerate(zip(systems, places, strict=True)):
        ax = axes[graphs.index(graph)]
        table = cell_accuracies(answers).assign(model=label, cell=cell, graph=graph)
        look: dict[str, Any] = {"color": style.colour(index), "marker": style.marker(index)}
        ax.plot(table["timestep"], table["accuracy"], label=label, **look)
        ax.fill_between(table["timestep"], table["ci_low"], table["ci_high"], color=look["color"], alpha=0.15, lw=0)
        rows.append(table)
        published = PUBLISHED[graph].get(cell)
        if published is not None and answers.system.data.name == "imagenet":
            ax.plot(answers.timesteps[-1], published, markerfacecolor="none", markersize=5, linestyle="none", **look)
            one = {"model": "published", "cell": cell, "graph": graph, "timestep": answers.timesteps[-1]}
            rows.append(pd.DataFrame([one | {"accuracy": published}]))
    for graph, ax in zip(graphs, axes, strict=True):
        ax.set_title(graph)
        ax.set_xlabel("timestep")
        own = [answers for (_, answers), (_, other) in zip(systems, places, strict=True) if other == graph]
        style.timestep_axis(ax, sorted({t for answers in own for t in answers.timesteps}))
    style.percent_axis(axes[0])
    style.legend_below(figure)
    missing = [cell for cell in PUBLISHED["shallow"] if cell not in {each for each, _ in places}]
    style.about(
        figure, *shown(systems, Published()), f"cells that are not there: {', '.join(missing)}" if missing else ""
    )
    return figure, pd.concat(rows, ignore_index=True)


register(
    PaperFigure(
        "nayebi2018",
        "accuracy",
        SUITES,
        6,
        ("convrnn-rgc-shallow-cifar", "convrnn-timedecay-shallow-cifar"),
        draw,
        "a run of suite clean by a recurrent network (convrnn-...)",
    )
)
