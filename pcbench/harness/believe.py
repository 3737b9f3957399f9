"""The believability report of a run with attacks: on disk, and in the terminal."""

import json
from pathlib import Path

import pandas as pd
from rich.table import Table

from pcbench.analysis.attacks import radius, robust_accuracy, worst_cases
from pcbench.analysis.believability import table
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
    """`pcbench.analysis.attacks.robust_accuracy` of every model and suite with attacks, named by leading columns.

    Args:
        records: of a run with attacks.
    """
    parts = [
        robust_accuracy(part).assign(**{name: str(value) for name, value in zip(_SYSTEM, system, strict=True)})
        for system, part in records.groupby(_SYSTEM, sort=False, observed=True)
    ]
    together = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return together[[*_SYSTEM, *(column for column in together if column not in _SYSTEM)]]


def robust_summary(robust: pd.DataFrame) -> Table:
    """Robust accuracies as a table for the terminal: what the worst of the attacks leaves, image by image.

    Args:
        robust: see `robust_table`.
    """
    shown = Table(
        title="robust accuracy in percent, 95 % interval: right under every attack of a radius, image by image",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for column in ("radius", "t", "attacks", "all images", "clean-correct images"):
        shown.add_column(column, justify="left" if column == "radius" else "right", overflow="fold")
    for (model, suite), part in robust.groupby(["model", "suite"], sort=False):
        shown.add_row(f"[bold]{model}[/], {suite}")
        for row in worst_cases(part).to_dict(orient="records"):
            clean = _share(row["survived"], row["n_clean"], row["clean_low"], row["clean_high"])
            shown.add_row(
                f"{row['norm']} {radius(row['epsilon'], row['norm'])}",
                str(row["timestep"]),
                str(row["conditions"]),
                _share(row["correct"], row["n"], row["low"], row["high"]),
                clean,
            )
    return shown


def _share(count: int, n: int, low: float, high: float) -> str:
    if n == 0:
        return "none"
    return f"{100 * count / n:.1f} [{100 * low:.1f}, {100 * high:.1f}] of {n}"


def believability_summary(checks: pd.DataFrame) -> Table:
    """The checks as a table for the terminal: what was asked, the verdict, the figure."""
    shown = Table(title="can these attacks be believed?", title_justify="left", box=None, pad_edge=False)
    for column in ("model", "check", "verdict", "figure"):
        shown.add_column(column, overflow="fold")
    several = checks["model"].nunique() > 1 or checks["suite"].nunique() > 1
    for (model, suite), part in checks.groupby(["model", "suite"], sort=False):
        name = f"{model}, {suite}" if several else str(model)
        for index, row in enumerate(part.itertuples(index=False)):
            verdict = str(row.verdict)
            shown.add_row(
                name if index == 0 else "", str(row.check), f"[{_COLOURS[verdict]}]{verdict}[/]", str(row.figure)
            )
    return shown
