"""Accuracies and the evidence of attacks as text for the terminal."""

from collections.abc import Collection, Sequence

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from pcbench.analysis.attacks import radius, worst_cases

_COLOURS = {"ok": "green", "suspicious": "yellow", "failed": "red", "not run": "dim"}

_MOST_STEPS = 9


def accuracy_summary(accuracy: pd.DataFrame, doubted: Collection[tuple[str, str]] = ()) -> Table:
    """Accuracy in percent per suite, perturbation and system, a column for each timestep; means over severities.

    Every row names data, weights and the number of images. A suite of attacks has a row for each radius, and no mean;
    clean images are not part of a mean over perturbations.

    Args:
        accuracy: rows with the columns of `pcbench.results.study.ACCURACY_COLUMNS`.
        doubted: (suite, model) of attacks that did not pass a sanity check: they are marked.
    """
    steps = sorted(int(step) for step in accuracy["timestep"].unique())
    if len(steps) > _MOST_STEPS:  # the first, the last, and some in between, so that the table fits
        steps = sorted({steps[round(i * (len(steps) - 1) / (_MOST_STEPS - 1))] for i in range(_MOST_STEPS)})
    table = Table(title="accuracy in percent", title_justify="left", box=None, pad_edge=False)
    table.add_column("suite, perturbation", overflow="fold")
    table.add_column("model [weights]", overflow="fold")  # what tells two ablations apart is at the end of their names
    table.add_column("data", overflow="fold", style="dim")
    table.add_column("images", justify="right", style="dim")
    for step in steps:
        table.add_column(f"t={step}", justify="right")
    moving = accuracy[accuracy["has_dynamics"]]  # networks without dynamics have T = 0, which tells nothing
    known = [name for name in _APART if (moving if name == "T" else accuracy)[name].nunique() > 1]
    for suite, of_suite in accuracy.groupby("suite", sort=False):
        attacks = (of_suite["group"] == "attack").any()
        if attacks:  # a mean over radii or attacks says nothing: robustness is the worst case
            names = of_suite["perturbation"] + of_suite["severity"].map(lambda size: f" {size:.4g}" if size else "")
            of_suite = of_suite.assign(perturbation=names)
        systems = ["model", "weights", "data", *known]
        for name, rows in of_suite.groupby("perturbation", sort=False):
            for system, of_system in rows.groupby(systems, sort=False):
                doubt = (suite, system[0]) in doubted and (of_system["group"] == "attack").any()
                what = f"{name} (?)" if doubt else str(name)
                _add_row(table, f"{suite}: {what}", system, known, of_system, steps)
        of_mean = of_suite[of_suite["group"] != "clean"]
        if of_mean["perturbation"].nunique() > 1 and not attacks:
            for system, of_system in of_mean.groupby(systems, sort=False):
                _add_row(table, f"{suite}: mean", system, known, of_system, steps, style="bold")
    if doubted:
        table.caption = "(?) an attack in doubt: see the checks below"
    return table


_APART = ("T", "seed", "dtype")  # what else can tell two systems apart


def _add_row(
    table: Table,
    what: str,
    system: Sequence[object],
    known: Sequence[str],
    rows: pd.DataFrame,
    steps: list[int],
    style: str | None = None,
) -> None:
    model, weights, data, *rest = map(str, system)
    more = "".join(f", {name} {value}" for name, value in zip(known, rest, strict=True))
    cells = (what, f"{model} [{weights}]{more}", data, *_cells(rows, steps))
    table.add_row(*map(escape, cells), style=style)


def _cells(rows: pd.DataFrame, steps: list[int]) -> list[str]:
    # each perturbation counts once, however many severities it has
    means = rows.groupby(["timestep", "perturbation"])["accuracy"].mean().groupby("timestep").mean()
    return [str(rows["n"].max()), *(f"{100 * means[step]:.1f}" if step in means else "" for step in steps)]


def robust_summary(robust: pd.DataFrame) -> Group:
    """Robust accuracies for the terminal: what the worst of the attacks leaves, image by image, and any doubt.

    Args:
        robust: see `robust_table`.
    """
    parts: list[RenderableType] = [
        "robust accuracy in percent, 95 % interval: right under every attack of a radius, image by image"
    ]
    for (model, suite, doubted), part in robust.groupby(["model", "suite", "doubts"], sort=False):
        shown = Table(box=None, pad_edge=False)
        for column in ("radius", "t", "attacks", "all images", "clean-correct images"):
            shown.add_column(column, justify="left" if column == "radius" else "right", overflow="fold")
        for row in worst_cases(part).to_dict(orient="records"):
            clean = _share(row["survived"], row["n_clean"], row["clean_low"], row["clean_high"])
            shown.add_row(
                f"{row['norm']} {radius(row['epsilon'], row['norm'])}",
                str(row["timestep"]),
                str(row["conditions"]),
                _share(row["correct"], row["n"], row["low"], row["high"]),
                clean,
            )
        parts += [_heading(str(model), str(suite)), shown]
        if doubted:
            parts.append(f"[red]upper bounds only, the attacks are in doubt: {doubted}[/]")
    return Group(*parts)


def _heading(model: str, suite: str) -> str:
    return f"[bold]{escape(model)}[/], {escape(suite)}"


def _share(count: int, n: int, low: float, high: float) -> str:
    if n == 0:
        return "none"
    return f"{100 * count / n:.1f} [{100 * low:.1f}, {100 * high:.1f}] of {n}"


def believability_summary(checks: pd.DataFrame) -> Group:
    """The checks for the terminal: what was asked, the verdict, the figure, and what to do about it."""
    parts: list[RenderableType] = ["can these attacks be believed? (one image more or less counts as chance)"]
    for (model, suite), part in checks.groupby(["model", "suite"], sort=False):
        shown = Table(box=None, pad_edge=False)
        for column in ("check", "verdict", "figure"):
            shown.add_column(column, overflow="fold")
        for row in part.to_dict(orient="records"):
            advice = f"; [bold]{escape(row['advice'])}[/]" if row["advice"] else ""
            verdict = f"[{_COLOURS[row['verdict']]}]{row['verdict']}[/]"
            shown.add_row(escape(row["check"]), verdict, escape(row["figure"]) + advice)
        parts += [_heading(str(model), str(suite)), shown]
    return Group(*parts)
