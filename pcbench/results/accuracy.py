"""accuracy.csv: what the records of a run add up to."""

from collections.abc import Iterable, Iterator

import pandas as pd

from pcbench.results.schema import ACCURACY_COLUMNS, CELL_COLUMNS

_NEEDED = [*CELL_COLUMNS, "timestep", "correct"]
_ROWS_AT_ONCE = 200_000


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
    from statsmodels.stats.proportion import proportion_confint  # here: it takes long to import

    grouped = records.groupby([*CELL_COLUMNS, "timestep"], sort=False, observed=True)["correct"]
    table = grouped.agg(n="size", correct="sum").reset_index()
    table["accuracy"] = table["correct"] / table["n"]
    table["ci_low"], table["ci_high"] = proportion_confint(table["correct"], table["n"], method="wilson")
    return table[ACCURACY_COLUMNS]


def accuracy_of_cells(cells: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """`accuracy_table` of the records of whole cells, a bounded number of rows at a time; in the order of the cells."""
    tables = [accuracy_table(portion) for portion in _portions(cells)]
    return pd.concat(tables, ignore_index=True) if tables else accuracy_table(pd.DataFrame())


def _portions(cells: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    waiting: list[pd.DataFrame] = []
    for cell in cells:
        waiting.append(cell[_NEEDED])
        if sum(map(len, waiting)) >= _ROWS_AT_ONCE:
            yield pd.concat(waiting, ignore_index=True)
            waiting.clear()
    if waiting:
        yield pd.concat(waiting, ignore_index=True)
