"""A run's accuracies as a table for the terminal."""

from collections.abc import Collection

import pandas as pd
from rich.table import Table

_MOST_STEPS = 9


def accuracy_summary(accuracy: pd.DataFrame, doubted: Collection[tuple[str, str]] = ()) -> Table:
    """Accuracy in percent per model and perturbation, a column for each timestep; means over severities.

    A suite of attacks has a row for each radius, and no mean.

    Args:
        accuracy: rows with the columns of `pcbench.results.schema.ACCURACY_COLUMNS`.
        doubted: (suite, model) of attacks that did not pass a sanity check: they are marked.
    """
    steps = sorted(int(step) for step in accuracy["timestep"].unique())
    if len(steps) > _MOST_STEPS:  # the first, the last, and some in between, so that the table fits
        steps = sorted({steps[round(i * (len(steps) - 1) / (_MOST_STEPS - 1))] for i in range(_MOST_STEPS)})
    table = Table(title="accuracy in percent", title_justify="left", box=None, pad_edge=False)
    table.add_column("suite", style="dim")
    table.add_column("perturbation", overflow="fold")
    table.add_column("model", overflow="fold")  # what tells two ablations apart is at the end of their names
    table.add_column("images", justify="right", style="dim")
    for step in steps:
        table.add_column(f"t={step}", justify="right")
    for suite, of_suite in accuracy.groupby("suite", sort=False):
        attacks = (of_suite["group"] == "attack").any()
        if attacks:  # a mean over radii or attacks says nothing: robustness is the worst case
            names = of_suite["perturbation"] + of_suite["severity"].map(lambda size: f" {size:.4g}" if size else "")
            of_suite = of_suite.assign(perturbation=names)
        for name, rows in of_suite.groupby("perturbation", sort=False):
            for model, of_model in rows.groupby("model", sort=False):
                doubt = (suite, model) in doubted and (of_model["group"] == "attack").any()
                table.add_row(str(suite), f"{name} (?)" if doubt else str(name), str(model), *_cells(of_model, steps))
        if of_suite["perturbation"].nunique() > 1 and not attacks:
            for model, of_model in of_suite.groupby("model", sort=False):
                table.add_row(str(suite), "mean", str(model), *_cells(of_model, steps), style="bold")
    if doubted:
        table.caption = "(?) an attack in doubt: see the checks below"
    return table


def _cells(rows: pd.DataFrame, steps: list[int]) -> list[str]:
    # each perturbation counts once, however many severities it has
    means = rows.groupby(["timestep", "perturbation"])["accuracy"].mean().groupby("timestep").mean()
    return [str(rows["n"].max()), *(f"{100 * means[step]:.1f}" if step in means else "" for step in steps)]
