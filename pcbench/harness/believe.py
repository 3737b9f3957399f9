"""The believability report of a run with attacks: on disk, and in the terminal."""

import json
from pathlib import Path

import pandas as pd
from rich.table import Table

from pcbench.analysis.attacks import robust_accuracy
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
    checks = table(results.records)
    if checks.empty:
        return checks
    rows = checks.to_dict(orient="records")
    write_atomically(directory / f"{CHECKS}.json", (json.dumps(rows, indent=2) + "\n").encode())
    write_atomically(directory / f"{CHECKS}.csv", checks.to_csv(index=False).encode())
    robust = [
        robust_accuracy(part).assign(**{name: str(value) for name, value in zip(_SYSTEM, system, strict=True)})
        for system, part in results.records.groupby(_SYSTEM, sort=False, observed=True)
    ]
    together = pd.concat([part for part in robust if len(part)], ignore_index=True)
    together = together[[*_SYSTEM, *(column for column in together if column not in _SYSTEM)]]
    write_atomically(directory / ROBUST, together.to_csv(index=False, float_format="%.6g").encode())
    return checks


_SYSTEM = ["model", "weights", "data", "suite"]


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
