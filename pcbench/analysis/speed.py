"""Accuracy next to what it costs: the speed-accuracy curves of a run."""

import pandas as pd

from pcbench.analysis.metrics import speed_accuracy
from pcbench.results.load import Run

COSTS = "cost.csv"
COLUMNS = ["suite", "model", "timestep", "accuracy", "gmacs", "images_per_second"]


def costs(run: Run) -> pd.DataFrame:
    """cost.csv of a run; empty where it has none, or a damaged one, which the run's problems then name.

    Returns:
        Columns model, weights, timestep, gmacs, gmacs_unrolled (see `pcbench.harness.beside`); the last is gmacs where
        the file is older than that column.
    """
    table = run.beside(COSTS)
    empty = pd.DataFrame(columns=["model", "weights", "timestep", "gmacs", "gmacs_unrolled"])
    if table is None:
        return empty
    try:
        if "gmacs_unrolled" not in table:
            table = table.assign(gmacs_unrolled=table["gmacs"])
        kinds = {"timestep": int, "gmacs": float, "gmacs_unrolled": float, "model": str}
        return table.astype(kinds)[list(empty)]
    except (ValueError, KeyError, OverflowError) as error:
        run.note(f"{run.directory / COSTS} is damaged ({error})")
        return empty


def speed_of(run: Run) -> pd.DataFrame:
    """A row for each suite, model and timestep of a run whose models' costs are known.

    Returns:
        Columns suite, model, timestep, accuracy (fraction, mean over perturbations), gmacs (1e9 multiply-accumulates of
        one image's answer at t, with all that it takes), images_per_second (of the model alone, without reading and
        perturbing images, as measured when unrolled to T; for one answer estimated from the share of
        multiply-accumulates; NaN where not measured).
        Suites of attacks are left out: the mean over attacks means nothing.
    """
    known = costs(run)
    parts = []
    for (model, suite), accuracy in run.accuracy.groupby(["model", "suite"], sort=False, observed=True):
        own = known[known["model"] == model].sort_values("timestep")
        steps = int(accuracy["timestep"].max())
        if len(own) <= steps or (accuracy["group"] == "attack").any():
            continue
        cells = [cell for key, cell in run.info.cells.items() if key.startswith(f"{model} {suite} ")]
        seconds = sum(cell.seconds.get("model", 0.0) for cell in cells)
        images = sum(cell.rows for cell in cells) / (steps + 1)
        rate = images / seconds if seconds > 0 else float("nan")
        macs, spent = 1e9 * own["gmacs"], 1e9 * float(own["gmacs_unrolled"].iloc[steps])
        table = speed_accuracy(accuracy, rate, macs.tolist(), spent)
        parts.append(table.assign(model=str(model))[COLUMNS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
