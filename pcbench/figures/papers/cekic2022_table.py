"""The table of the HaH paper, as dots: accuracy on clean images, with Gaussian noise, and under attack."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.answers import every
from pcbench.analysis.attacks import WORST, attack_records, radius, robust_accuracy
from pcbench.analysis.robustness import attacked_systems
from pcbench.figures import style
from pcbench.figures.registry import PaperFigure, register
from pcbench.intervals import wilson
from pcbench.results.study import Study

PLAIN = ("clean", "gaussian-noise-pixel")
ATTACKS = ("adversarial-cifar10-linf", "adversarial-cifar10-l2")
SUITES = (*PLAIN, *ATTACKS)
PUBLISHED_SIGMA = 0.1


def table(study: Study) -> pd.DataFrame:
    """A row for each model and condition of the table: model, condition, accuracy, low, high (percent), n."""
    rows: list[tuple[str, str, int, int]] = []
    there = study.suite_names()
    plain = [suite for suite in PLAIN if suite in there]
    for suite, systems in every(study, suites=plain).items() if plain else ():
        for found in systems:
            for index, condition in enumerate(found.conditions.to_dict("records")):
                if suite != "clean" and not np.isclose(condition["severity"], PUBLISHED_SIGMA):
                    continue
                name = "clean" if suite == "clean" else f"noise σ {condition['severity']:g}"
                rows.append((found.full, name, int(found.values[index, :, -1].sum()), found.values.shape[1]))
    for suite, label, records in attacked_systems(study):
        if suite not in ATTACKS or attack_records(records).empty:
            continue
        robust = robust_accuracy(records)
        worst = robust[(robust["timestep"] == robust["timestep"].max()) & (robust["label"] == WORST)]
        for row in worst.to_dict("records"):
            name = f"{row['norm']} ε {radius(row['epsilon'], row['norm'])}"
            rows.append((f"{label} [{records['weights'].iloc[0]}]", name, int(row["correct"]), int(row["n"])))
    found_rows = pd.DataFrame(rows, columns=["model", "condition", "correct", "n"]).drop_duplicates(
        ["model", "condition"]
    )
    if found_rows.empty:
        return found_rows
    low, high = wilson(found_rows["correct"], found_rows["n"])
    return found_rows.assign(accuracy=100 * found_rows["correct"] / found_rows["n"], low=100 * low, high=100 * high)


def draw(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """A row for each condition, a marker for each model, Wilson's intervals."""
    data = table(study)
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
