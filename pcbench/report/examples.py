"""The pictures of a report: a few images as the model saw them, with its answer at each timestep."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from pcbench.results.cell import Cell
from pcbench.results.study import Study, System, labels

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
        suite, data, perturbation, severity, image, label: of the picture.
        source: the picture as a data URI.
        answers: model -> its answers, t ascending.
    """

    suite: str
    data: str
    perturbation: str
    severity: float
    image: str
    label: int
    source: str
    answers: dict[str, list[Answer]]


def cards(study: Study) -> list[Card]:
    """The examples that cells kept: of each perturbation at its middle severity; none where none was kept.

    Systems that were shown the same picture share a card; an attack makes a picture for each.
    """
    names = labels(study.systems())
    found: dict[tuple[object, ...], Card] = {}
    levels: dict[tuple[str, str], set[float]] = {}
    for cell in study.cells:
        for suite in study.suites_of(cell):
            condition = cell.key.condition
            levels.setdefault((suite, condition.perturbation), set()).add(condition.severity)
    for cell, kept in study.thumbnails():
        condition = cell.key.condition
        label = f"{names[System.of(cell.key)]} [{cell.key.model.weights}]"
        for suite in study.suites_of(cell):
            if condition.severity != _middle(levels[suite, condition.perturbation]):
                continue
            said = _answers(cell, kept["image"])
            for row in kept.to_dict("records"):
                place = (suite, cell.key.data.name, condition.perturbation, condition.severity, row["image"])
                whole = (*place, row["thumbnail"])
                if whole not in found:
                    source = f"data:{_TYPE};base64,{base64.b64encode(row['thumbnail']).decode()}"
                    found[whole] = Card(
                        suite,
                        cell.key.data.name,
                        condition.perturbation,
                        condition.severity,
                        str(row["image"]),
                        int(row["label"]),
                        source,
                        {},
                    )
                found[whole].answers[label] = said[row["image"]]
    return list(found.values())


def _middle(severities: Iterable[float]) -> float:
    levels = sorted(severities)
    return levels[len(levels) // 2]


def _answers(cell: Cell, images: Iterable[str]) -> dict[str, list[Answer]]:
    """Image -> the answers to it, t ascending."""
    frame = cell.records(["image", "timestep", "prediction", "confidence", "correct"])
    shown = frame[frame["image"].isin(set(images))]
    found: dict[str, list[Answer]] = {}
    for row in shown.to_dict("records"):
        answer = Answer(
            int(row["timestep"]), int(row["prediction"]), 100 * float(row["confidence"]), bool(row["correct"])
        )
        found.setdefault(str(row["image"]), []).append(answer)
    return found
