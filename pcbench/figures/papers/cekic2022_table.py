"""The table of the HaH paper, as dots: accuracy on clean images, with Gaussian noise, and under attack."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.answers import every
from pcbench.analysis.attacks import WORST, attack_records, radius, robust_accuracy
from pcbench.analysis.statistics import wilson
from pcbench.figures import style
from pcbench.figures.registry import PaperFigure, register
from pcbench.results.load import Run

PLAIN = ("clean", "gaussian-noise-pixel")
ATTACKS = ("adversarial-cifar10-linf", "adversarial-cifar10-l2")
SUITES = (*PLAIN, *ATTACKS)
PUBLISHED_SIGMA = 0.1


def table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each model and condition of the table: model, condition, accuracy, low, high (percent), n."""
    rows: list[tuple[str, str, int, int]] = []
    for run in runs:
        if run.records.empty:
            continue
        for found in every(run.records, suites=PLAIN):
            for index, condition in enumerate(found.conditions.to_dict("records")):
                if found.name[3] != "clean" and not np.isclose(condition["severity"], PUBLISHED_SIGMA):
                    continue
                name = "clean" if found.name[3] == "clean" else f"noise σ {condition['severity']:g}"
                rows.append((found.model, name, int(found.values[index, :, -1].sum()), found.values.shape[1]))
        for (model, _), part in run.records[run.records["suite"].isin(ATTACKS)].groupby(["model", "suite"], sort=False):
            if attack_records(part).empty:
                continue
            robust = robust_accuracy(part)
            worst = robust[(robust["timestep"] == robust["timestep"].max()) & (robust["label"] == WORST)]
            for row in worst.to_dict("records"):
                name = f"{row['norm']} ε {radius(row['epsilon'], row['norm'])}"
                rows.append((str(model), name, int(row["correct"]), int(row["n"])))
    found_rows = pd.DataFrame(rows, columns=["model", "condition", "correct", "n"]).drop_duplicates(
        ["model", "condition"]
    )
    if found_rows.empty:
        return found_rows
    low, high = wilson(found_rows["correct"], found_rows["n"])
    return found_rows.assign(accuracy=100 * found_rows["correct"] / found_rows["n"], low=100 * low, high=100 * high)


def draw(runs: Sequence[Run]) -> tuple[Figure, pd.DataFrame] | None:
    """A row for each condition, a marker for each model, Wilson's intervals."""
    data = table(runs)
    if data.empty:
        return None
    conditions, models = list(dict.fromkeys(data["condition"])), list(dict.fromkeys(data["model"]))
    figure = style.canvas(style.COLUMN, 0.9 + 0.14 * len(conditions) * (1 + len(models)))
    ax = figure.subplots()
    for index, model in enumerate(models):
        part = data[data["model"] == model]
        shift = (index - (len(models) - 1) / 2) / (1 + len(models))
        height = np.array([conditions.index(name) for name in part["condition"]]) + shift
        reach = [part["accuracy"] - part["low"], part["high"] - part["accuracy"]]
        ax.errorbar(
            part["accuracy"],
            height,
            xerr=reach,
            linestyle="none",
            color=style.colour(index),
            marker=style.marker(index),
            label=model,
        )
    ax.set_yticks(range(len(conditions)), conditions)
    ax.set_ylim(len(conditions) - 0.5, -0.5)
    ax.set_xlabel("accuracy (%), 95 % interval")
    figure.legend(loc="outside lower center", ncols=2)
    return figure, data


register(
    PaperFigure(
        "cekic2022",
        "table",
        SUITES,
        0,
        ("hah-vgg16", "vgg16-cifar"),
        draw,
        "runs of suites clean, gaussian-noise-pixel and adversarial-cifar10-linf",
        to_run=("clean", "gaussian-noise-pixel", "adversarial-cifar10-linf"),
    )
)
