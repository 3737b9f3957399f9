"""Pictures of attacks: attack x evaluation timestep, accuracy over time per epsilon, one attack against another."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pcbench.analysis.attacks import (
    NOISE,
    WORST,
    attack_records,
    clean_answers,
    main_attack,
    matrix,
    over_time,
    radius,
    robust_accuracy,
    successes,
)
from pcbench.analysis.believability import Check, believability, doubts
from pcbench.figures import style
from pcbench.intervals import wilson

FORMATS = ("png", "svg")
_DOUBT = "#B00020"
_PANELS = 4
CAPTIONS = {
    "matrix": "Attacked at one timestep, judged at every timestep: accuracy of the images that were right before. On "
    "the diagonal the attack on the judged answer; an attack that does better from another row was too weak.",
    "epsilons": "Accuracy among all images at each attacked timestep, under the attack made for that timestep. t = 0 "
    "is the feedforward pass.",
    "transfer": "Attacks crafted on another network, judged at every timestep, among all images.",
    "attacks": "One attack against another, at one radius and timestep, among the images that are right without "
    "attack. Strong attacks come out at the left; random noise and weaker attacks must come out right of them.",
    "successes": "Attacks that reach their goal, against the radius, for each attacked timestep.",
    "relative": "Rate of success against the attacked timestep, shifted so that the feedforward pass is at 1: above 1 "
    "the network is easier to attack at that timestep, below 1 harder.",
}
_ROLES = ("random noise", "transfer", "hard-label", "gradient-free", "single-step", "white-box", WORST)


def adversarial_figures(records: pd.DataFrame, directory: Path, stem: str) -> list[Path]:
    """Draw the attacks of one model in one suite, marked where the sanity checks doubt them.

    Args:
        records: of one model and suite with attacks.
        directory: where the files go; made if need be.
        stem: start of the file names.

    Returns:
        The files: PNG, SVG and the CSV of what each shows.
    """
    files = []
    for name, (figure, data) in drawings(records).items():
        files += style.save(figure, data, directory / f"{stem}-{name}", FORMATS)
    return files


def drawings(records: pd.DataFrame) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """The figures of one model's attacks in one suite, by the names of `CAPTIONS`, each with the numbers it shows.

    Args:
        records: of one model and suite. Without attacks, or when no image was attacked, there are no figures.
    """
    rows = attack_records(records)
    main = main_attack(rows)
    if main is None or not (robust_accuracy(records)["n_clean"] > 0).any():  # no image was right, so none was attacked
        return {}
    drawn: dict[str, tuple[Figure, pd.DataFrame]] = {}
    own = rows[(rows["label"] == main) & (rows["source"] == "")]
    several = own["aimed"].nunique() > 1 and bool(own["attacked"].any())
    if rows["timestep"].nunique() > 1:
        if several:
            drawn["matrix"] = heat_maps(records, main)
            drawn["epsilons"] = curves(records, main)
        if (rows["source"] != "").any():
            drawn["transfer"] = transferred(records)
    drawn["attacks"] = ladder(records)
    if several and own["severity"].nunique() > 1 and (own["aimed"] == 0).any():
        drawn["successes"] = success_counts(records, main)
        drawn["relative"] = relative_successes(records, main)
    checks = believability(records)
    for figure, _ in drawn.values():
        mark(figure, checks)
    return drawn


def mark(figure: Figure, checks: Sequence[Check]) -> None:
    """Say in a figure's title which sanity checks its attacks did not pass; nothing when all that ran are ok."""
    words = doubts(checks)
    if not words:
        return
    lines = textwrap.wrap(f"in doubt, {words}", int(11 * figure.get_figwidth()))
    figure.set_figheight(figure.get_figheight() + 0.13 * len(lines))  # the panels keep their size
    figure.suptitle("\n".join([figure.get_suptitle(), *lines]), color=_DOUBT)


def _entitle(figure: Figure, records: pd.DataFrame, text: str) -> None:
    """Whose attacks these are, on what, and what is shown."""
    model, weights, data, suite = (str(records[name].iloc[0]) for name in ("model", "weights", "data", "suite"))
    figure.suptitle(f"{model} [{weights}], {data}, {suite}\n{text}")


def _range(counts: "pd.Series[int]") -> str:
    """`18`, or `17-18` where counts differ."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low}-{high}"


def heat_maps(records: pd.DataFrame, label: str) -> tuple[Figure, pd.DataFrame]:
    """Attack timestep x evaluation timestep, one panel for each epsilon (four at most, evenly chosen).

    Returns:
        The figure, and `matrix` of each epsilon with the column epsilon, accuracy in percent.
    """
    rows = attack_records(records)
    own = rows[rows["label"] == label]
    norm = str(own["norm"].iloc[0])
    every = [matrix(records, label, epsilon).assign(epsilon=epsilon) for epsilon in sorted(own["severity"].unique())]
    tables = [table for table in every if len(table)]  # attacks on the mean or the worst of timesteps have no row
    if len(tables) > _PANELS:
        tables = [tables[int(i)] for i in np.linspace(0, len(tables) - 1, _PANELS).round()]
    epsilons = [table["epsilon"].iloc[0] for table in tables]
    side = 1.9
    figure = style.canvas(max(style.COLUMN, 0.7 + side * len(epsilons)), side + 0.75)
    axes = figure.subplots(1, len(epsilons), squeeze=False, sharey=True)[0]
    for ax, table, epsilon in zip(axes, tables, epsilons, strict=True):
        grid = 100 * table.pivot(index="at", columns="timestep", values="accuracy")
        ax.imshow(grid, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        small = 6.5 if grid.shape[1] <= 6 else 4.5
        for (i, j), value in np.ndenumerate(grid.to_numpy()):
            ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=small, color="w" if value < 60 else "k")
        ax.set_xticks(range(grid.shape[1]), [str(t) for t in grid.columns])
        ax.set_yticks(range(grid.shape[0]), [str(t) for t in grid.index])
        ax.grid(visible=False)
        ax.set_title(f"ε = {radius(epsilon, norm)}, n = {_range(table['n'])}")
        ax.set_xlabel("judged at t")
    axes[0].set_ylabel("attacked at t")
    _entitle(figure, records, f"{label}: accuracy (%) of n images right before")
    data = pd.concat(tables, ignore_index=True)
    for column in ("accuracy", "low", "high"):
        data[column] *= 100
    return figure, data


def curves(records: pd.DataFrame, label: str) -> tuple[Figure, pd.DataFrame]:
    """Accuracy against timestep, each timestep under the attack made for it; one line for each epsilon.

    Returns:
        The figure, and `over_time` with accuracies in percent.
    """
    data = over_time(records, label)
    rows = attack_records(records)
    norm = str(rows.loc[rows["label"] == label, "norm"].iloc[0])
    figure = style.canvas(style.COLUMN, style.COLUMN * 0.85)
    ax = figure.subplots()
    epsilons = sorted(data["epsilon"].unique())
    for column in ("accuracy", "low", "high"):
        data[column] *= 100
    for colour, epsilon in zip(style.shades(len(epsilons)), epsilons, strict=True):
        part = data[data["epsilon"] == epsilon]
        name = "no attack" if epsilon == 0 else f"ε = {radius(epsilon, norm)}"
        ax.plot(part["timestep"], part["accuracy"], color=colour, marker="o", label=name)
        ax.fill_between(part["timestep"], part["low"], part["high"], color=colour, alpha=0.12, lw=0)
    style.timestep_axis(ax, sorted(int(t) for t in data["timestep"].unique()))
    style.percent_axis(ax, f"accuracy (%) of all {_range(data['n'])} images")
    ax.set_ylim(-3, 103)
    ax.set_xlabel("timestep, attacked and judged")
    _entitle(figure, records, f"{label}; 95 % intervals")
    figure.legend(loc="outside right center")
    return figure, data


def ladder(records: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """One attack against another: accuracy of the clean-correct images at the radius and timestep with most attacks.

    Random noise of the same norm is the top rung, the worst case over attacks the lowest. Random noise, weaker
    attacks and transfer that come out below the white-box attack are a sign of a weak attack.

    Returns:
        The figure, and a row for each rung: condition, epsilon, timestep, n, correct, accuracy, low, high (percent).
    """
    rows = attack_records(records)
    robust = robust_accuracy(records)
    robust = robust[robust["n_clean"] > 0]
    counts = robust[robust["label"] != WORST].groupby(["norm", "epsilon", "timestep"])["label"].nunique()
    order = counts.reset_index(name="attacks").sort_values(["attacks", "timestep"], ascending=False, kind="stable")
    norm, epsilon, step = str(order["norm"].iloc[0]), float(order["epsilon"].iloc[0]), int(order["timestep"].iloc[0])
    here = robust[(robust["norm"] == norm) & (robust["epsilon"] == epsilon) & (robust["timestep"] == step)]
    rungs = [
        (str(label), int(n), round(n * share))
        for label, n, share in here[["label", "n_clean", "robust_of_clean"]].itertuples(index=False)
    ]
    same = records[(records["severity"] == epsilon) & (records["timestep"] == step)]
    clean = clean_answers(records)
    for name, part in same[same["group"] == NOISE].groupby("perturbation", observed=True):
        answers = part.set_index("image")["correct"].astype(bool)
        kept = answers[clean.xs(step, level="timestep").reindex(answers.index)] if len(clean) else answers
        if (part["norm"] == norm).all() and len(kept):
            rungs.append((str(name), len(kept), int(kept.sum())))
    data = pd.DataFrame(rungs, columns=["condition", "n", "correct"]).assign(epsilon=epsilon, timestep=step)
    low, high = wilson(data["correct"], data["n"])
    data = data.assign(accuracy=100 * data["correct"] / data["n"], low=100 * low, high=100 * high)
    data = data.sort_values("accuracy", ascending=False, kind="stable").reset_index(drop=True)
    figure = style.canvas(style.COLUMN * 1.2, 1.4 + 0.2 * len(data))
    ax = figure.subplots()
    roles = dict(zip(rows["label"], rows["knowledge"], strict=True)) | {WORST: WORST}
    for index, role in enumerate(_ROLES):
        part = data[[roles.get(name, "random noise") == role for name in data["condition"]]]
        if part.empty:
            continue
        ax.errorbar(
            part["accuracy"],
            part.index,
            xerr=np.abs(part[["low", "high"]].to_numpy().T - part["accuracy"].to_numpy()),
            linestyle="none",
            color=style.colour(index),
            marker=style.marker(index),
            elinewidth=0.7,
            label=role,
        )
    ax.set_yticks(range(len(data)), list(data["condition"]))
    ax.set_ylim(len(data) - 0.5, -0.5)
    ax.set_xlim(-3, 103)
    ax.set_xlabel(f"accuracy (%) of the {data['n'].max()} clean-correct\nimages, 95 % interval")
    _entitle(figure, records, f"{norm} ε = {radius(epsilon, norm)}, judged at t = {step}")
    figure.legend(loc="outside lower center", ncols=3)
    return figure, data


def transferred(records: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Accuracy at each timestep under attacks crafted on another network: a panel for each attack.

    Returns:
        The figure, with a dashed line for no attack, and a row for each attack, epsilon and timestep, accuracies in
        percent, among all images.
    """
    data = robust_accuracy(records)
    clean = 100 * clean_answers(records).groupby("timestep").mean()
    rows = attack_records(records)
    sent = set(rows.loc[rows["source"] != "", "label"])
    data = data[data["label"].isin(sent)].reset_index(drop=True)
    for column in ("robust", "low", "high"):
        data[column] *= 100
    labels = list(data["label"].unique())
    epsilons = sorted(data["epsilon"].unique())
    shade = dict(zip(epsilons, style.shades(len(epsilons)), strict=True))
    figure, axes = style.panels(len(labels), columns=2, height=1.8)
    for ax, label in zip(axes, labels, strict=True):
        for epsilon, part in data[data["label"] == label].groupby("epsilon"):
            name = f"ε = {radius(float(str(epsilon)), str(part['norm'].iloc[0]))}"
            ax.plot(part["timestep"], part["robust"], color=shade[epsilon], marker="o", label=name)
            ax.fill_between(part["timestep"], part["low"], part["high"], color=shade[epsilon], alpha=0.12, lw=0)
        if len(clean):
            ax.plot(clean.index, clean, color=style.BASELINE, linestyle=(0, (3, 2)), label="no attack")
        ax.set_title(label)
        style.timestep_axis(ax, sorted(int(t) for t in data["timestep"].unique()))
        ax.set_ylim(-3, 103)
        ax.set_xlabel("timestep")
    style.percent_axis(axes[0], f"accuracy (%) of all {_range(data['n'])} images")
    _entitle(figure, records, "transferred attacks; 95 % intervals")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure, data


def success_counts(records: pd.DataFrame, label: str | None = None) -> tuple[Figure, pd.DataFrame]:
    """The paper's first figure: number of successful attacks against epsilon (log axis), a line for each timestep."""
    label = label or str(main_attack(attack_records(records)))
    rows = attack_records(records)
    norm = str(rows.loc[rows["label"] == label, "norm"].iloc[0])
    data = successes(records, label)
    figure = style.canvas(style.COLUMN, style.COLUMN * 0.8)
    ax = figure.subplots()
    steps = sorted(data["timestep"].unique())
    for colour, step in zip(style.shades(len(steps)), steps, strict=True):
        part = data[data["timestep"] == step]
        ax.plot(part["epsilon"], part["successes"], color=colour, marker="o", label=f"t = {step}")
    ax.set_xscale("log")
    epsilons = sorted(data["epsilon"].unique())
    ax.set_xticks(epsilons, [radius(epsilon, norm) for epsilon in epsilons], rotation=45, minor=False)
    ax.set_xticks([], minor=True)
    ax.set_ylim(-0.03 * data["n"].max(), 1.03 * data["n"].max())
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.set_xlabel(f"ε ({norm})")
    ax.set_ylabel(f"successful attacks of {_range(data['n'])}")
    _entitle(figure, records, f"{label}, attacked images only")
    figure.legend(loc="outside right center")
    return figure, data


def relative_successes(records: pd.DataFrame, label: str | None = None) -> tuple[Figure, pd.DataFrame]:
    """The paper's second figure: success rate against timestep, shifted so that the feedforward value is 1.

    Lines are the four largest epsilons: 0.7 to 1.0 in the paper's protocol.
    """
    label = label or str(main_attack(attack_records(records)))
    rows = attack_records(records)
    norm = str(rows.loc[rows["label"] == label, "norm"].iloc[0])
    data = successes(records, label)
    figure = style.canvas(style.COLUMN, style.COLUMN * 0.8)
    ax = figure.subplots()
    shown = sorted(data["epsilon"].unique())[-_PANELS:]
    for colour, epsilon in zip(style.shades(len(shown)), shown, strict=True):
        part = data[data["epsilon"] == epsilon]
        ax.plot(part["timestep"], part["relative"], color=colour, marker="o", label=f"ε = {radius(epsilon, norm)}")
    ax.axhline(1, color=style.BASELINE, linestyle=(0, (3, 2)), linewidth=0.8)
    style.timestep_axis(ax, sorted(int(t) for t in data["timestep"].unique()))
    ax.set_xlabel("timestep, attacked and judged")
    ax.set_ylabel("success rate, feedforward = 1")
    _entitle(figure, records, f"{label}, attacked images only")
    figure.legend(loc="outside right center")
    return figure, data[data["epsilon"].isin(shown)]
