"""Accuracies and the evidence of attacks as text for the terminal."""

from collections.abc import Collection, Sequence

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pcbench.analysis.attacks import radius, worst_cases

_COLOURS = {"ok": "green", "suspicious": "yellow", "failed": "red", "not run": "dim"}

_MOST_STEPS = 9


def accuracy_summary(accuracy: pd.DataFrame, doubted: Collection[tuple[str, str]] = ()) -> Group:
    """Accuracy in percent: a table for each suite and system, a row for each perturbation, a column for each timestep.

    The heading of a table names suite, network, weights, data and number of images. The answer comes first: the mean
    over perturbations of each system, where there are several. A suite of attacks has a row for each radius, and no
    mean; clean images are not part of a mean over perturbations. A network without dynamics has one column.

    Args:
        accuracy: rows with the columns of `pcbench.results.study.ACCURACY_COLUMNS`.
        doubted: (suite, model) of attacks that did not pass a sanity check: they are marked.
    """
    moving = accuracy[accuracy["has_dynamics"]]  # networks without dynamics have T = 0, which tells nothing
    known = [name for name in _APART if (moving if name == "T" else accuracy)[name].nunique() > 1]
    parts: list[RenderableType] = [Text("accuracy in percent", style="italic")]
    details: list[RenderableType] = []
    for suite, of_suite in accuracy.groupby("suite", sort=False):
        attacks = (of_suite["group"] == "attack").any()
        if attacks:  # a mean over radii or attacks says nothing: robustness is the worst case
            names = of_suite["perturbation"] + of_suite["severity"].map(lambda size: f" {size:.4g}" if size else "")
            of_suite = of_suite.assign(perturbation=names)
        for system, rows in of_suite.groupby(["model", "weights", "data", *known], sort=False):
            doubt = (str(suite), str(system[0])) in doubted
            heading = Text(_system(str(suite), system, known, rows), style="bold")
            table = _table(rows, doubt)
            averaged = rows[rows["group"] != "clean"]
            if averaged["perturbation"].nunique() > 1 and not attacks:
                mean = _new_table(rows)
                mean.add_row("mean", *_cells(averaged, _steps(rows)), style="bold")
                parts += [heading, mean]
                details += [Text(""), heading, table]
            else:
                details += [Text(""), heading, table]
    if doubted:
        details.append(Text("(?) an attack in doubt: see the checks below", style="italic"))
    return Group(*(parts if len(parts) > 1 else parts[:1]), *details)


_APART = ("T", "seed", "dtype")  # what else can tell two systems apart


def _system(suite: str, system: Sequence[object], known: Sequence[str], rows: pd.DataFrame) -> str:
    model, weights, data, *rest = map(str, system)
    more = "".join(f", {name} {value}" for name, value in zip(known, rest, strict=True))
    return f"{suite}: {model} [{weights}]{more}; {data}, {rows['n'].max()} images"


def _steps(rows: pd.DataFrame) -> list[int]:
    """The timesteps to show: all, or the first, the last and some in between, so that the table fits."""
    steps = sorted(int(step) for step in rows["timestep"].unique()) if rows["has_dynamics"].any() else [0]
    if len(steps) > _MOST_STEPS:
        steps = sorted({steps[round(i * (len(steps) - 1) / (_MOST_STEPS - 1))] for i in range(_MOST_STEPS)})
    return steps


def _new_table(rows: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True)
    table.add_column("", overflow="fold", min_width=20)
    for step in _steps(rows):
        table.add_column(f"t={step}" if rows["has_dynamics"].any() else "every t", justify="right")
    return table


def _table(rows: pd.DataFrame, doubt: bool) -> Table:
    table, steps = _new_table(rows), _steps(rows)
    for name, part in rows.groupby("perturbation", sort=False):
        what = f"{name} (?)" if doubt and (part["group"] == "attack").any() else str(name)
        table.add_row(escape(what), *_cells(part, steps))
    return table


def _cells(rows: pd.DataFrame, steps: list[int]) -> list[str]:
    # each perturbation counts once, however many severities it has
    means = rows.groupby(["timestep", "perturbation"])["accuracy"].mean().groupby("timestep").mean()
    return [f"{100 * means[step]:.1f}" if step in means else "" for step in steps]


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
            parts.append(f"[red]upper bounds only, the attacks are in doubt: {escape(str(doubted))}[/]")
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
