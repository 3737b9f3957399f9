"""The believability report of a run with attacks: on disk, and in the terminal."""

import json
from pathlib import Path

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from pcbench.analysis.attacks import radius, robust_accuracy, worst_cases
from pcbench.analysis.believability import believability, doubts, table
from pcbench.results.load import Results
from pcbench.results.store import write_atomically

CHECKS = "believability"
ROBUST = "robust-accuracy.csv"
_COLOURS = {"ok": "green", "suspicious": "yellow", "failed": "red", "not run": "dim"}


def write_believability(results: Results, directory: Path) -> pd.DataFrame:
    """Check the attacks of a run and keep what comes of it, where there are any.

    Writes believability.json and .csv (a row for each check, see `pcbench.analysis.believability.table`) and
    robust-accuracy.csv (see `pcbench.analysis.attacks.robust_accuracy`).

    Args:
        results: of the run.
        directory: of the run.

    Returns:
        The checks; empty for a run without attacks.

    Raises:
        RunError: the files cannot be written.
    """
    attacked = "attack" in set(results.accuracy["group"])  # without loading the records
    checks = table(results.records) if attacked else pd.DataFrame()
    if checks.empty:
        return checks
    rows = checks.to_dict(orient="records")
    write_atomically(directory / f"{CHECKS}.json", (json.dumps(rows, indent=2) + "\n").encode())
    write_atomically(directory / f"{CHECKS}.csv", checks.to_csv(index=False).encode())
    together = robust_table(results.records)
    write_atomically(directory / ROBUST, together.to_csv(index=False, float_format="%.6g").encode())
    return checks


_SYSTEM = ["model", "weights", "data", "suite"]


def robust_table(records: pd.DataFrame) -> pd.DataFrame:
    """`pcbench.analysis.attacks.robust_accuracy` of every model and suite with attacks.

    Args:
        records: of a run with attacks.

    Returns:
        Its rows with the columns model, weights, data and suite before them, and the column doubts after them: the
        sanity checks that the attacks did not pass (see `pcbench.analysis.believability.doubts`).
    """
    parts = []
    for system, part in records.groupby(_SYSTEM, sort=False, observed=True):
        if not (part["group"] == "attack").any():
            continue
        names = {name: str(value) for name, value in zip(_SYSTEM, system, strict=True)}
        parts.append(robust_accuracy(part).assign(**names, doubts=doubts(believability(part))))
    together = pd.concat(parts, ignore_index=True)
    last = "doubts"
    return together[[*_SYSTEM, *(column for column in together if column not in (*_SYSTEM, last)), last]]


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
