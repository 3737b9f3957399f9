"""The pictures of a report: a few images as the model saw them, with its answer at each timestep."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pcbench.results.load import Run

_CELL = ["suite", "perturbation", "severity", "image"]
_TYPE = "image/webp"


@dataclass(frozen=True)
class Answer:
    """What a model said at one timestep: class, its probability in percent, and whether it is right."""

    timestep: int
    prediction: int
    confidence: float
    correct: bool


@dataclass(frozen=True)
class Card:
    """A picture and what the models that saw it said.

    Attributes:
        suite, perturbation, severity, image, label: of the picture.
        source: the picture as a data URI.
        answers: model -> its answers, t ascending.
    """

    suite: str
    perturbation: str
    severity: float
    image: str
    label: int
    source: str
    answers: Mapping[str, list[Answer]]


def cards(run: Run) -> list[Card]:
    """The examples that a run kept: of each perturbation at its middle severity; empty where it kept none.

    Models that were shown the same picture share a card; an attack makes a picture for each model.
    """
    kept = run.extra("examples")  # noqa: S610 - not Django's
    wanted = {*_CELL, "model", "label", "thumbnail"}
    if kept.empty or not wanted <= set(kept) or run.records.empty:
        return []
    middle = {name: _middle(part["severity"]) for name, part in kept.groupby(["suite", "perturbation"], sort=False)}
    chosen = kept[[middle[row.suite, row.perturbation] == row.severity for row in kept.itertuples()]]
    said = _answers(run.records, chosen)
    found = []
    for _, part in chosen.groupby([*_CELL, "thumbnail"], sort=False):
        row = part.iloc[0].to_dict()
        answers = {str(model): said.get((model, *(row[name] for name in _CELL)), []) for model in part["model"]}
        source = f"data:{_TYPE};base64,{base64.b64encode(row['thumbnail']).decode()}"
        cell = str(row["suite"]), str(row["perturbation"]), float(row["severity"]), str(row["image"])
        found.append(Card(*cell, int(row["label"]), source, answers))
    return found


def _middle(severities: pd.Series) -> float:
    levels = sorted(severities.unique())
    return float(levels[len(levels) // 2])


def _answers(records: pd.DataFrame, chosen: pd.DataFrame) -> dict[tuple[object, ...], list[Answer]]:
    shown = records[records["image"].isin(set(chosen["image"])) & records["suite"].isin(set(chosen["suite"]))]
    found: dict[tuple[object, ...], list[Answer]] = {}
    for row in shown.sort_values("timestep").to_dict("records"):
        answer = Answer(
            int(row["timestep"]), int(row["prediction"]), 100 * float(row["confidence"]), bool(row["correct"])
        )
        found.setdefault((row["model"], *(row[name] for name in _CELL)), []).append(answer)
    return found
