"""accuracy.csv: what the records of a run add up to."""

import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from pcbench.results.schema import ACCURACY_COLUMNS, CELL_COLUMNS


def accuracy_table(records: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each cell at each timestep, with the 95 % Wilson interval.

    Args:
        records: rows with the columns of `pcbench.results.schema.RECORD_COLUMNS`.

    Returns:
        The columns of `ACCURACY_COLUMNS`, in the order in which the cells come in the records. Intervals are
        marginal: overlap of two of them says nothing about a difference on the same images, see `pcbench compare`.
    """
    if records.empty:
        return pd.DataFrame(columns=ACCURACY_COLUMNS)
    grouped = records.groupby([*CELL_COLUMNS, "timestep"], sort=False, observed=True)["correct"]
    table = grouped.agg(n="size", correct="sum").reset_index()
    table["accuracy"] = table["correct"] / table["n"]
    table["ci_low"], table["ci_high"] = proportion_confint(table["correct"], table["n"], method="wilson")
    return table[ACCURACY_COLUMNS]
