"""The attacks of a study: what they leave, and whether they can be believed, system by system and suite by suite."""

from collections.abc import Iterator

import pandas as pd

from pcbench.analysis.attacks import robust_accuracy
from pcbench.analysis.believability import believability, doubts
from pcbench.analysis.believability import table as checks_of
from pcbench.results.study import Study, labels

SYSTEM = ["model", "weights", "data", "suite"]


def attacked_systems(study: Study) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(suite, label, records) of each system and suite with attacks; records with a column of the suite."""
    names = labels(study.systems())
    for suite in study.suite_names():
        for system, part in study.select(suite=suite).systems().items():
            if not any(cell.key.condition.group == "attack" for cell in part.cells):
                continue
            records = part.records
            study.problems.extend(line for line in part.problems if line not in study.problems)
            if "image" in records and len(records):
                yield suite, names[system], records.assign(suite=suite, model=names[system])


def robust_table(study: Study) -> pd.DataFrame:
    """`pcbench.analysis.attacks.robust_accuracy` of every system and suite with attacks.

    Returns:
        Its rows with the columns model, weights, data and suite before them, and the column doubts after them: the
        sanity checks that the attacks did not pass (see `pcbench.analysis.believability.doubts`).
    """
    parts = []
    for _, _, records in attacked_systems(study):
        names = {name: str(records[name].iloc[0]) for name in SYSTEM}
        parts.append(robust_accuracy(records).assign(**names, doubts=doubts(believability(records))))
    if not parts:
        return pd.DataFrame()
    together = pd.concat(parts, ignore_index=True)
    return together[[*SYSTEM, *(column for column in together if column not in (*SYSTEM, "doubts")), "doubts"]]


def evidence_table(study: Study) -> pd.DataFrame:
    """The checks of the attacks of every system and suite: see `pcbench.analysis.believability.table`."""
    parts = [checks_of(records) for _, _, records in attacked_systems(study)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
