"""What a results directory has besides its cells: tables made of the cells that are there, and of nothing else."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from pcbench.keys import digest_of
from pcbench.results.study import Study

ACCURACY, COSTS, TERMS = "accuracy.csv", "cost.csv", "terms.csv"
ROBUST, EVIDENCE = "robust-accuracy.csv", "evidence.csv"
NAMES = (ACCURACY, COSTS, TERMS, ROBUST, EVIDENCE)


def digest_of_cells(study: Study) -> str:
    """Digest over the cells of a study and their records: tables of equal digests are equal."""
    return digest_of(sorted([cell.key.digest, cell.content] for cell in study.cells))


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """File name -> table; only those that the cells have something for.

    accuracy.csv: `Study.accuracy`. cost.csv: `costs`. terms.csv: `terms`. robust-accuracy.csv and evidence.csv: see
    `pcbench.analysis.robustness`.
    """
    makers: Mapping[str, Callable[[Study], pd.DataFrame]] = {
        ACCURACY: lambda one: one.accuracy,
        COSTS: costs,
        TERMS: terms,
    }
    found = {name: make(study) for name, make in makers.items()}
    if any(cell.key.condition.group == "attack" for cell in study.cells):
        from pcbench.analysis.robustness import evidence_table, robust_table

        found |= {ROBUST: robust_table(study), EVIDENCE: evidence_table(study)}
    return {name: table for name, table in found.items() if len(table)}


def to_csv(table: pd.DataFrame) -> bytes:
    """A table as the bytes of its file: nine digits, which is what a fraction of images has to say."""
    texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    safe = table.assign(**{str(name): table[name].map(_no_formula) for name in texts})
    return str(safe.to_csv(index=False, float_format="%.9g", lineterminator="\n")).encode()


def _no_formula(value: object) -> object:
    """Text that a spreadsheet would compute, as text: names in records may come from strangers."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def costs(study: Study) -> pd.DataFrame:
    """What an answer costs.

    Returns:
        A row for each system and timestep: model, weights, data, T, dtype, timestep, gmacs (1e9 multiply-accumulates of
        one image's answer at t, with all that has to come before it), gmacs_unrolled (of all its answers at 0..t, as a
        run computes them), images_per_second (of a pass to T over the images alone, without reading and perturbing
        them, over all cells of predictions), device.
    """
    rows: list[dict[str, Any]] = []
    for system, part in study.systems().items():
        known = next((c.provenance["model"] for c in part.cells if _has_costs(c.provenance, system.timesteps)), None)
        if known is None:
            continue
        plain = [cell for cell in part.cells if cell.key.measure == "predictions" and cell.seconds.get("model", 0) > 0]
        seconds = sum(cell.seconds["model"] for cell in plain)
        images = sum(cell.key.data.n for cell in plain)
        devices = dict.fromkeys(str(cell.provenance.get("device", "")) for cell in plain)
        for t in range(system.timesteps + 1):
            rows.append(
                {
                    "model": system.model.label,
                    "weights": system.model.weights,
                    "data": system.data.name,
                    "T": system.timesteps,
                    "dtype": system.dtype,
                    "timestep": t,
                    "gmacs": float(known["gmacs"][t]),
                    "gmacs_unrolled": float(known["gmacs_unrolled"][t]),
                    "images_per_second": images / seconds if seconds else float("nan"),
                    "device": ", ".join(devices),
                }
            )
    return pd.DataFrame(rows)


def _has_costs(provenance: Mapping[str, Any], timesteps: int) -> bool:
    model = provenance.get("model")
    if not isinstance(model, Mapping):
        return False
    lists = [model.get("gmacs"), model.get("gmacs_unrolled")]
    return all(
        isinstance(each, list) and len(each) == timesteps + 1 and all(isinstance(v, int | float) for v in each)
        for each in lists
    )


def terms(study: Study) -> pd.DataFrame:
    """Share of each term in the update, where a predictive network's cells say it: see `term_shares`.

    Returns:
        model, weights, T, and the columns of the rows: pcoder, module, timestep, feedforward, feedback, memory, error,
        images.
    """
    columns = ("pcoder", "module", "timestep", "feedforward", "feedback", "memory", "error", "images")
    rows: list[dict[str, Any]] = []
    for system, part in study.systems().items():
        found: list[Any] = next(
            (c.provenance["terms"] for c in part.cells if isinstance(c.provenance.get("terms"), list)), []
        )
        for row in found:
            if isinstance(row, Mapping) and set(columns) <= set(row):
                start = {"model": system.model.label, "weights": system.model.weights, "T": system.timesteps}
                rows.append({**start, **{name: row[name] for name in columns}})
    return pd.DataFrame(rows)
