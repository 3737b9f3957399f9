"""The pictures of a study: what every results directory gets, whatever its models and suites."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pcbench.analysis.answers import Answers, every
from pcbench.analysis.comparison import once_each
from pcbench.analysis.means import accuracy as mean_accuracy
from pcbench.analysis.paired import paired
from pcbench.analysis.robustness import attacked_systems
from pcbench.analysis.selection import baseline_of, comparable
from pcbench.analysis.speed import speed_of
from pcbench.figures import style
from pcbench.figures.adversarial import adversarial_figures
from pcbench.figures.manifold import manifold_figure, manifolds
from pcbench.figures.speed import speed_figure
from pcbench.intervals import wilson
from pcbench.results.study import Study

FORMATS = ("png", "svg")
LONGEST = 100  # characters of a file name, without its ending


def study_figures(study: Study, directory: Path) -> list[Path]:
    """Draw the cells of a study: accuracy against timestep per perturbation, their mean, against strength and cost.

    Systems that cannot be compared (other images, seeds, precision) are in figures of their own.

    Args:
        study: of any suites and models; what was interrupted is drawn as far as it went.
        directory: where the files go; made if need be.

    Returns:
        The files that were written: PNG, SVG and the CSV of what each shows.
    """
    files: list[Path] = []
    attacked = {suite for suite, *_ in attacked_systems(study)}
    with style.style():
        for suite, systems in every(study).items():
            if suite in attacked:
                continue
            groups = comparable(systems)
            for number, group in enumerate(groups):
                name = suite or "cells"
                stem = name if len(groups) == 1 else f"{name}-{number + 1}-{group[0].system.data.name}"
                files += _group(group, directory, stem)
        for suite, label, records in attacked_systems(study):
            files += adversarial_figures(records, directory, slug(f"{suite}-{label}"))
        for label, table in manifolds(study):
            files += style.save(*manifold_figure(table), directory / slug(f"manifold-{label}-distance"), FORMATS)
        speeds = speed_of(study)
        for (suite_of, data), part in speeds.groupby(["suite", "data"], sort=False):
            several = speeds.loc[speeds["suite"] == suite_of, "data"].nunique() > 1
            stem_of = slug(f"{suite_of}-{data}-speed" if several else f"{suite_of}-speed")
            files += style.save(speed_figure(part, f"{suite_of}, {data}"), part, directory / stem_of, FORMATS)
    return files


def _group(systems: Sequence[Answers], directory: Path, stem: str) -> list[Path]:
    files: list[Path] = []
    pairs = []
    for system in systems:
        if len(system.timesteps) > 1:
            reference = reference_of(system, systems)
            pairs.append((system, reference))
            files += style.save(*over_time(system, reference), directory / slug(f"{stem}-{system.label}"), FORMATS)
    if pairs:
        files += style.save(*mean_over_time(pairs), directory / slug(f"{stem}-mean"), FORMATS)
    if systems[0].conditions["perturbation"].duplicated().any():
        files += style.save(*against_strength(systems), directory / slug(f"{stem}-strength"), FORMATS)
    elif not pairs:
        files += style.save(*bars(systems), directory / slug(f"{stem}-accuracy"), FORMATS)
    return files


def slug(name: str) -> str:
    """A file name without spaces and signs that some systems refuse; a long one ends in a hash of the whole.

    >>> slug("clean-timm:resnet18")
    'clean-timm-resnet18'
    """
    plain = re.sub(r"[^A-Za-z0-9.@_-]+", "-", name)
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def reference_of(system: Answers, systems: Sequence[Answers]) -> Answers:
    """What a system is drawn against: its feedforward baseline when that is among the systems, else its own t = 0.

    A baseline that lacks some of the system's conditions (the run was interrupted) is none yet.
    """
    other = baseline_of(system, systems)
    if other is not None and other.keys == system.keys:
        return other.at(other.timesteps[0])
    return system.at(system.timesteps[0])


def label_of(reference: Answers, system: Answers) -> str:
    """How the dashed line is called."""
    return f"{system.label} at t = 0" if reference.system == system.system else reference.full


def over_time(system: Answers, reference: Answers) -> tuple[Figure, pd.DataFrame]:
    """Accuracy against timestep: one panel for each perturbation, one line for each severity, dashed the baseline.

    Returns:
        The figure, and a row for each point: perturbation, severity, timestep, accuracy, ci_low, ci_high (Wilson, for
        each point by itself), baseline, n.
    """
    table = cell_accuracies(system)
    table["baseline"] = np.repeat(100 * reference.values[:, :, 0].mean(axis=1), len(system.timesteps))
    names = system.perturbations()
    figure, axes = style.panels(len(names))
    levels = sorted(system.conditions["severity"].unique())
    shade = dict(zip(levels, style.shades(len(levels)), strict=True))
    for name, ax in zip(names, axes, strict=True):
        for severity, part in table[table["perturbation"] == name].groupby("severity"):
            ax.plot(part["timestep"], part["accuracy"], color=shade[severity], marker="o", markersize=1.8)
            ax.axhline(part["baseline"].iloc[0], color=shade[severity], linestyle=(0, (3, 2)), linewidth=0.8)
        ax.set_title(readable(name))
        style.timestep_axis(ax, system.timesteps)
    _label_panels(axes, "timestep", "accuracy (%)")
    handles = [Line2D([], [], color=shade[level], marker="o", label=f"{level:g}") for level in levels]
    dashed = style.fold(label_of(reference, system), 22)
    style.make_room(figure, dashed.count("\n"))
    handles.append(Line2D([], [], color="black", linestyle=(0, (3, 2)), linewidth=0.8, label=dashed))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 7 if len(names) > 1 else 4),
        title=strength_name(system) if len(levels) > 1 else None,
    )
    figure.suptitle(f"{system.full}\n{system.on_what}")
    return figure, table


def cell_accuracies(system: Answers) -> pd.DataFrame:
    """A row for each condition and timestep: accuracy in percent with its Wilson interval."""
    steps = len(system.timesteps)
    correct = system.values.sum(axis=1).ravel()
    n = system.values.shape[1]
    low, high = wilson(correct, n)
    table = system.conditions.loc[np.repeat(system.conditions.index, steps)].reset_index(drop=True)
    return table.assign(
        timestep=np.tile(system.timesteps, len(system.conditions)),
        accuracy=100 * correct / n,
        ci_low=100 * low,
        ci_high=100 * high,
        n=n,
    )


def mean_over_time(pairs: Sequence[tuple[Answers, Answers]]) -> tuple[Figure, pd.DataFrame]:
    """The mean over perturbations against timestep, and its paired difference from the baseline.

    Args:
        pairs: models with dynamics, each with its baseline.

    Returns:
        The figure, and a row for each model and timestep: accuracy, ci_low, ci_high, baseline, difference, diff_low,
        diff_high. Intervals are marginal and over images (`pcbench.analysis.means`, `pcbench.analysis.paired`).
    """
    rows = []
    figure = style.canvas(style.COLUMN, style.COLUMN * 1.05)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    references: dict[str, float] = {}
    for index, (system, reference) in enumerate(pairs):
        first, second = (each.values.astype(bool).transpose(0, 2, 1) for each in (system, reference))
        weights = once_each(system)
        mean = mean_accuracy(first, weights)
        difference = paired(first, second[:, :1], weights).interval()
        base = float(mean_accuracy(second[:, 0], weights).value)
        part = pd.DataFrame(
            {
                "model": system.full,
                "baseline_model": label_of(reference, system),
                "timestep": system.timesteps,
                "accuracy": 100 * mean.value,
                "ci_low": 100 * mean.low,
                "ci_high": 100 * mean.high,
                "baseline": 100 * base,
                "difference": 100 * difference.value,
                "diff_low": 100 * difference.low,
                "diff_high": 100 * difference.high,
                "n": first.shape[2],
            }
        )
        rows.append(part)
        look = {"color": style.colour(index), "marker": style.marker(index)}
        upper.plot(part["timestep"], part["accuracy"], label=system.full, **look)
        upper.fill_between(part["timestep"], part["ci_low"], part["ci_high"], color=look["color"], alpha=0.15, lw=0)
        references.setdefault(label_of(reference, system), float(part["baseline"].iloc[0]))
        lower.plot(part["timestep"], part["difference"], **look)
        start = int(np.array_equal(first[:, 0], second[:, 0]))  # t = 0 is the baseline: no difference, no interval
        asked = part.iloc[start:]
        lower.fill_between(
            asked["timestep"], asked["diff_low"], asked["diff_high"], color=look["color"], alpha=0.15, lw=0
        )
    for index, (name, value) in enumerate(references.items()):
        upper.axhline(value, color=style.BASELINE, linestyle=(0, (3 + 2 * index, 2)), linewidth=0.9, label=name)
    lower.axhline(0, color=style.BASELINE, linestyle=(0, (3, 2)), linewidth=0.9)
    style.percent_axis(upper, "mean accuracy (%)" if len(pairs[0][0].averaged()) > 1 else "accuracy (%)")
    style.percent_axis(lower, "difference\nfrom dashed (points)")
    steps = sorted({t for system, _ in pairs for t in system.timesteps})
    style.timestep_axis(lower, steps)
    lower.set_xlabel("timestep")
    names = pairs[0][0].averaged()
    what = f"mean over {len(names)} perturbations" if len(names) > 1 else readable(names[0])
    upper.set_title(f"{what}, 95 % interval\n{pairs[0][0].on_what}")
    if len(pairs) + len(references) > 3:  # more would cover the curves
        style.legend_below(figure)
    else:
        upper.legend()
    return figure, pd.concat(rows, ignore_index=True)


def against_strength(systems: Sequence[Answers]) -> tuple[Figure, pd.DataFrame]:
    """Accuracy against severity (sigma, epsilon): one panel for each perturbation; each model at its t = 0 and T."""
    tables = [cell_accuracies(system).assign(model=system.full) for system in systems]
    names = list(dict.fromkeys(name for system in systems for name in system.perturbations()))
    figure, axes = style.panels(len(names))
    shown = []
    order = sorted(range(len(systems)), key=lambda i: len(systems[i].timesteps))  # hollow markers over filled ones
    for index in order:
        system, table = systems[index], tables[index]
        ends = sorted({system.timesteps[0], system.timesteps[-1]})
        for step in ends:
            part = table[table["timestep"] == step]
            shown.append(part)
            dashed = len(ends) > 1 and step == ends[0]
            label = system.full if len(ends) == 1 else f"{system.full}, t = {step}"
            for name, ax in zip(names, axes, strict=True):
                line = part[part["perturbation"] == name].sort_values("severity")
                ax.errorbar(
                    line["severity"],
                    line["accuracy"],
                    yerr=np.abs(line[["ci_low", "ci_high"]].to_numpy().T - line["accuracy"].to_numpy()),
                    color=style.colour(index),
                    marker=style.marker(index),
                    markerfacecolor="white" if dashed else None,
                    linestyle=(0, (3, 2)) if dashed else "-",
                    elinewidth=0.6,
                    label=label if ax is axes[0] else None,
                )
    for name, ax in zip(names, axes, strict=True):
        ax.set_title(readable(name))
    _label_panels(axes, strength_name(systems[0]), "accuracy (%)")
    figure.suptitle(systems[0].on_what)
    style.legend_below(figure)
    return figure, pd.concat(shown, ignore_index=True)


def strength_name(system: Answers) -> str:
    """What the severity of a suite's perturbations is: noise has a standard deviation, an attack a radius."""
    if set(system.conditions["severity"]) <= {1.0, 2.0, 3.0, 4.0, 5.0}:
        return "severity"
    groups = set(system.conditions["group"])
    if groups <= {"noise", "clean"}:
        return "standard deviation σ"
    if groups <= {"attack", "clean"}:
        return "radius ε"
    return "strength"


def bars(systems: Sequence[Answers]) -> tuple[Figure, pd.DataFrame]:
    """Accuracy of models without dynamics in conditions without strengths: a point for each model and condition."""
    table = pd.concat([cell_accuracies(system).assign(model=system.full) for system in systems], ignore_index=True)
    names = list(dict.fromkeys(name for system in systems for name in system.perturbations()))
    figure = style.canvas(style.COLUMN, 0.6 + 0.22 * len(names) * len(systems))
    ax = figure.subplots()
    spread = np.linspace(-0.25, 0.25, len(systems)) if len(systems) > 1 else [0.0]
    for index, (system, shift) in enumerate(zip(systems, spread, strict=True)):
        part = table[table["model"] == system.full]
        height: npt.NDArray[np.float64] = np.array([names.index(name) for name in part["perturbation"]]) + shift
        ax.errorbar(
            part["accuracy"],
            height,
            xerr=np.abs(part[["ci_low", "ci_high"]].to_numpy().T - part["accuracy"].to_numpy()),
            linestyle="none",
            color=style.colour(index),
            marker=style.marker(index),
            label=system.full,
        )
    ax.set_yticks(range(len(names)), [readable(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel(f"accuracy (%), 95 % interval; {systems[0].on_what}")
    style.legend_below(figure)
    return figure, table


def readable(name: str) -> str:
    """A perturbation's name as a title.

    >>> readable("jpeg_compression"), readable("pgd-linf@t4")
    ('jpeg compression', 'pgd-linf, attacked at t = 4')
    """
    base, at, step = name.partition("@t")
    base = base.replace("_", " ")
    return f"{base}, attacked at t = {step}" if at else base


def _label_panels(axes: Sequence[Axes], x: str, y: str) -> None:
    """Axis labels at the left and the bottom edge of a grid only."""
    for ax in axes:
        place = ax.get_subplotspec()
        if place is not None and place.is_first_col():
            ax.set_ylabel(y)
        if ax.xaxis.get_tick_params()["labelbottom"]:
            ax.set_xlabel(x)
