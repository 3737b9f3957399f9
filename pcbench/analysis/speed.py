"""Accuracy next to what it costs: the speed-accuracy curves of a study."""

import pandas as pd

from pcbench.analysis.derived import costs
from pcbench.analysis.metrics import speed_accuracy
from pcbench.results.study import Study, labels

COLUMNS = ["suite", "data", "model", "timestep", "accuracy", "gmacs", "images_per_second"]


def speed_of(study: Study) -> pd.DataFrame:
    """A row for each suite, system and timestep whose costs are known.

    Returns:
        Columns suite, data, model (label and weights), timestep, accuracy (fraction, mean over perturbations), gmacs
        (1e9 multiply-accumulates of one image's answer at t, with all that it takes), images_per_second (of the model
        alone, as measured when unrolled to T; for one answer estimated from the share of multiply-accumulates; NaN
        where not measured). Suites of attacks are left out: the mean over attacks means nothing.
    """
    names = labels(study.systems())
    parts = []
    for suite in study.suite_names():
        for system, cells in study.select(suite=suite).systems().items():
            if any(cell.key.condition.group == "attack" for cell in cells.cells):
                continue
            own = costs(cells)
            if own.empty:
                continue
            accuracy = cells.accuracy[cells.accuracy["suite"] == suite]
            several = accuracy["group"].nunique() > 1
            accuracy = accuracy[accuracy["group"] != "clean"] if several else accuracy
            rate = float(own["images_per_second"].iloc[0])
            table = speed_accuracy(
                accuracy, rate, (1e9 * own["gmacs"]).tolist(), 1e9 * float(own["gmacs_unrolled"].iloc[-1])
            )
            label = f"{names[system]} [{system.model.weights}]"
            parts.append(table.assign(model=label, data=system.data.name)[COLUMNS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
