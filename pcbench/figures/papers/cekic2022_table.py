"""The table of the HaH paper, as dots: accuracy on clean images, with Gaussian noise, and under attack."""

from collections.abc import Sequence

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
# Table 1 of the paper (percent), in the order of its columns; CIFAR-10, VGG16, AutoAttack.
PUBLISHED = {
    "clean": {"standard": 92.5, "HaH": 87.3},
    "noise σ 0.1": {"standard": 26.6, "HaH": 64.0},
    "linf ε 2/255": {"standard": 10.4, "HaH": 21.5},
    "l2 ε 0.25": {"standard": 13.9, "HaH": 27.6},
}


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


def published() -> pd.DataFrame:
    """The table of the paper in the form of `table`; its n and intervals are not known."""
    rows = [
        {"model": f"published, {name}", "condition": condition, "accuracy": accuracy}
        for condition, values in PUBLISHED.items()
        for name, accuracy in values.items()
    ]
    return pd.DataFrame(rows).assign(n=np.nan, low=np.nan, high=np.nan)


def draw(study: Study) -> tuple[Figure, pd.DataFrame] | None:
    """A row for each condition, a marker for each model, Wilson's intervals; hollow: the published values."""
    ours = table(study)
    if ours.empty:
        return None
    on_cifar10 = {cell.key.data.name for cell in study.cells} == {"cifar10"}
    data = pd.concat([ours, published()], ignore_index=True) if on_cifar10 else ours
    conditions = list(dict.fromkeys([*(PUBLISHED if on_cifar10 else ()), *ours["condition"]]))
    models = list(dict.fromkeys(data["model"]))
    figure = style.canvas(style.COLUMN * 1.2, 0.9 + 0.12 * len(conditions) * (1 + len(models)))
    ax = figure.subplots()
    for index, model in enumerate(models):
        part = data[data["model"] == model]
        shift = (index - (len(models) - 1) / 2) / (1 + len(models))
        height = np.array([conditions.index(name) for name in part["condition"]]) + shift
        of_paper = bool(part["n"].isna().all())
        ax.errorbar(
            part["accuracy"],
            height,
            xerr=None if of_paper else [part["accuracy"] - part["low"], part["high"] - part["accuracy"]],
            linestyle="none",
            color=style.colour(index),
            marker=style.marker(index),
            markerfacecolor="white" if of_paper else None,
            label=style.named(model),
        )
    ax.set_yticks(range(len(conditions)), conditions)
    ax.set_ylim(len(conditions) - 0.5, -0.5)
    ax.set_xlabel("accuracy (%), 95 % interval; hollow: published" if on_cifar10 else "accuracy (%), 95 % interval")
    style.legend_below(figure)
    style.about(figure, *_what(study, ours, conditions))
    return figure, data


def _what(study: Study, ours: pd.DataFrame, conditions: Sequence[str]) -> list[str]:
    """The images, and the rows of the table that these results do not have."""
    names = " and ".join(dict.fromkeys(cell.key.data.name for cell in study.cells))
    rows = {str(name): ours[ours["condition"] == name] for name in dict.fromkeys(ours["condition"])}
    counts = {name: sorted(set(part["n"].astype(int))) for name, part in rows.items()}
    shown = {name: ", ".join(f"{k:,}" for k in each) for name, each in counts.items()}
    n = "; ".join(f"{name}: n = {each}" for name, each in shown.items())
    if len(set(shown.values())) == 1:
        n = f"n = {next(iter(shown.values()))}"
    models = list(dict.fromkeys(ours["model"]))
    lacking = [name for name in conditions if name not in counts]
    lines = [f"{names}; {n}", f"not there: {', '.join(lacking)}" if lacking else ""]
    for name in counts:
        without = [style.named(m) for m in models if m not in set(rows[name]["model"])]
        if without:
            more = f" and {len(without) - 3} more" if len(without) > 3 else ""
            lines.append(f"no {name} of {', '.join(without[:3])}{more}")
    return lines


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
