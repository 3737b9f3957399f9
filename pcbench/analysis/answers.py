"""The answers of one model as a dense array: condition x image x timestep. What every statistic starts from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pcbench.errors import UserError

SYSTEM = ["model", "weights", "data", "suite"]


@dataclass(frozen=True)
class Answers:
    """What one model answered in one suite.

    Attributes:
        name: (model, weights, data, suite).
        conditions: one row for each condition: perturbation, group, severity; in the order of the records.
        images: I image ids, sorted.
        timesteps: the T + 1 timesteps, ascending.
        values: (conditions, I, T + 1), of one column of the records (`correct` as bool).
    """

    name: tuple[str, str, str, str]
    conditions: pd.DataFrame
    images: npt.NDArray[np.object_]
    timesteps: list[int]
    values: npt.NDArray[Any]

    @property
    def model(self) -> str:
        """The model's name."""
        return self.name[0]

    def perturbations(self) -> list[str]:
        """Names of the perturbations, each once, in order."""
        return list(dict.fromkeys(self.conditions["perturbation"]))

    def group(self, perturbation: str) -> str:
        """The group of a perturbation."""
        return str(self.conditions.loc[self.conditions["perturbation"] == perturbation, "group"].iloc[0])

    def of(self, perturbation: str) -> npt.NDArray[Any]:
        """(severities, I, T + 1): the values of one perturbation."""
        return self.values[np.flatnonzero(self.conditions["perturbation"] == perturbation)]

    def per_image(self, perturbation: str | None = None) -> npt.NDArray[np.float64]:
        """(I, T + 1): each image's mean over the severities of one perturbation, or over everything.

        Over everything, each perturbation counts once, however many severities it has.
        """
        if perturbation is not None:
            return np.asarray(self.of(perturbation).mean(axis=0, dtype=float))
        return np.asarray(np.mean([self.per_image(name) for name in self.perturbations()], axis=0))

    def on(self, images: npt.NDArray[np.object_]) -> "Answers":
        """The same, of the given images (sorted ids) only."""
        kept = np.isin(self.images, images)
        return Answers(self.name, self.conditions, self.images[kept], self.timesteps, self.values[:, kept])

    def under(self, keys: Sequence[tuple[str, float]]) -> "Answers":
        """The same, of the given conditions (perturbation, severity) only, in their order."""
        own = zip(self.conditions["perturbation"], self.conditions["severity"], strict=True)
        place = {key: index for index, key in enumerate(own)}
        rows = [place[key] for key in keys]
        conditions = self.conditions.iloc[rows].reset_index(drop=True)
        return Answers(self.name, conditions, self.images, self.timesteps, self.values[rows])


def answers(records: pd.DataFrame, column: str = "correct") -> Answers:
    """The dense array of one model's records in one suite.

    Args:
        records: rows with the columns of `pcbench.results.schema`, of one model, weights, data and suite.
        column: which column to take.

    Raises:
        UserError: more than one model or suite, or a condition that lacks images or timesteps that others have.
    """
    if records.empty:
        raise UserError("there are no records to analyse")
    firsts = [str(records[name].iloc[0]) for name in SYSTEM]
    for name, first in zip(SYSTEM, firsts, strict=True):
        if (records[name] != first).any():
            raise UserError(f"records of more than one {name}: {first} and others; analyse them one at a time")
    condition, conditions = _conditions(records)
    image, images = pd.factorize(records["image"].astype("category"), sort=True)
    step, steps = pd.factorize(records["timestep"], sort=True)
    shape = len(conditions), len(images), len(steps)
    position = (condition * shape[1] + image) * shape[2] + step
    taken = records[column].to_numpy()
    count = np.bincount(position, minlength=int(np.prod(shape)))
    if (count != 1).any():
        where = int(np.flatnonzero(count != 1)[0])
        row = conditions.iloc[where // (shape[1] * shape[2])]
        raise UserError(
            f"{firsts[0]}, suite {firsts[3]}: image {images[where // shape[2] % shape[1]]!r} of {row['perturbation']} "
            f"severity {row['severity']:g} has {count[where]} records at t = {steps[where % shape[2]]}; expected 1"
        )
    values = np.empty(position.size, dtype=taken.dtype)
    values[position] = taken
    return Answers(
        (firsts[0], firsts[1], firsts[2], firsts[3]),
        conditions,
        np.asarray(images, dtype=object),
        [int(t) for t in steps],
        values.reshape(shape),
    )


def _conditions(records: pd.DataFrame) -> tuple[npt.NDArray[np.int64], pd.DataFrame]:
    """The condition of each record, and the table of conditions in order of appearance."""
    names, _ = pd.factorize(records["perturbation"])
    severities, levels = pd.factorize(records["severity"])
    code, pairs = pd.factorize(names * len(levels) + severities)
    first = np.zeros(len(pairs), dtype=np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    table = records.iloc[first][["perturbation", "group", "severity"]].reset_index(drop=True)
    table = table.astype({"perturbation": object, "group": object, "severity": float})
    return code.astype(np.int64), table


def every(records: pd.DataFrame, column: str = "correct", suites: Sequence[str] | None = None) -> list[Answers]:
    """`answers` of every model and suite in the records, in order of appearance."""
    if suites is not None:
        records = records[records["suite"].isin(list(suites))]
    groups = records.groupby(SYSTEM, sort=False, observed=True)
    return [answers(part, column) for _, part in groups]
