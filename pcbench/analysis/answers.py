"""The answers of one system as a dense array: condition x image x timestep. What every statistic starts from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pcbench.errors import UserError
from pcbench.keys import Condition
from pcbench.results.cell import Cell
from pcbench.results.study import Study, System, labels


@dataclass(frozen=True)
class Answers:
    """What one system answered in one suite.

    Attributes:
        system: see `pcbench.results.study.System`.
        label: what it is called beside the others that it is shown with.
        suite: name.
        conditions: one row for each condition: perturbation, group, severity; in the order of the suite.
        keys: the same as keys.
        images: I image ids, sorted; empty for records that were published as answers alone.
        timesteps: the T + 1 timesteps, ascending.
        values: (conditions, I, T + 1), of one column of the records (`correct` as bool).
        classes: length of the logits; 0 where it is not known.
        devices: that computed them.
    """

    system: System
    label: str
    suite: str
    conditions: pd.DataFrame
    keys: tuple[Condition, ...]
    images: npt.NDArray[np.object_]
    timesteps: list[int]
    values: npt.NDArray[Any]
    classes: int = 0
    devices: tuple[str, ...] = ()

    @property
    def full(self) -> str:
        """The label with the tag of the weights, which no figure or table leaves out."""
        tag = self.system.model.weights
        return self.label if not tag or f"[{tag}" in self.label else f"{self.label} [{tag}]"

    @property
    def on_what(self) -> str:
        """The images, for figures and tables."""
        return f"{self.system.data.name}, {self.values.shape[1]:,} images"

    def perturbations(self) -> list[str]:
        """Names of the perturbations, each once, in order."""
        return list(dict.fromkeys(self.conditions["perturbation"]))

    def group(self, perturbation: str) -> str:
        """The group of a perturbation."""
        return str(self.conditions.loc[self.conditions["perturbation"] == perturbation, "group"].iloc[0])

    def places(self, perturbation: str) -> npt.NDArray[np.intp]:
        """The conditions of one perturbation, by place; strength 0, the clean images, only where it has no other."""
        own = (self.conditions["perturbation"] == perturbation).to_numpy()
        strong = own & (self.conditions["severity"] != 0).to_numpy()
        return np.flatnonzero(strong if strong.any() else own)

    def of(self, perturbation: str) -> npt.NDArray[Any]:
        """(severities, I, T + 1): the values of one perturbation, in the order of `places`."""
        return self.values[self.places(perturbation)]

    def averaged(self) -> list[str]:
        """The perturbations that a mean is over: clean images are not one, where there are others."""
        names = self.perturbations()
        return [name for name in names if self.group(name) != "clean"] or names

    def per_image(self, perturbation: str | None = None) -> npt.NDArray[np.float64]:
        """(I, T + 1): each image's mean over the severities of one perturbation, or over all of `averaged`.

        Over all, each perturbation counts once, however many severities it has.
        """
        if perturbation is not None:
            return np.asarray(self.of(perturbation).mean(axis=0, dtype=float))
        return np.asarray(np.mean([self.per_image(name) for name in self.averaged()], axis=0))

    def on(self, images: npt.NDArray[np.object_]) -> "Answers":
        """The same, of the given images (sorted ids) only."""
        kept = np.isin(self.images, images)
        return replace(self, images=self.images[kept], values=self.values[:, kept])

    def rows(self, places: Sequence[int]) -> "Answers":
        """The same, of the conditions at these places only, in their order."""
        chosen = list(places)
        return replace(
            self,
            conditions=self.conditions.iloc[chosen].reset_index(drop=True),
            keys=tuple(self.keys[place] for place in chosen),
            values=self.values[chosen],
        )

    def at(self, timestep: int) -> "Answers":
        """The same, at one timestep only; a network without dynamics has the same answer at each."""
        place = 0 if len(self.timesteps) == 1 else self.timesteps.index(timestep)
        return replace(self, timesteps=[timestep], values=self.values[:, :, place : place + 1])


def answers(study: Study, column: str = "correct", *, label: str = "", suite: str = "") -> Answers:
    """The dense array of one system's cells. Cells are read one at a time.

    Args:
        study: cells of one system.
        column: which column of the records to take.
        label: what the system is called.
        suite: name of the suite.

    Raises:
        UserError: cells of several systems, which it names; or no cell that can be read.
    """
    systems = study.systems()
    if len(systems) != 1:
        raise UserError(f"there are {len(systems)} systems: {'; '.join(labels(systems).values())}; say which")
    system = next(iter(systems))
    found: list[tuple[Cell, npt.NDArray[Any]]] = []
    read: Callable[[Cell], npt.NDArray[Any]] = (
        (lambda cell: cell.correct) if column == "correct" else (lambda cell: cell.matrix(column))
    )
    for cell in study.cells:
        try:
            found.append((cell, np.ascontiguousarray(read(cell).T)))
        except UserError as error:
            study.note(str(error))
    if not found:
        raise UserError(f"{label or system.model.label}: there are no records of {column}")
    first = found[0][0]
    if any(cell.order != first.order for cell, _ in found):
        raise UserError(f"{label or system.model.label}: its cells are of different images under one fingerprint")
    keys = tuple(cell.key.condition for cell, _ in found)
    conditions = pd.DataFrame(
        {
            "perturbation": pd.Series([key.perturbation for key in keys], dtype=object),
            "group": pd.Series([key.group for key in keys], dtype=object),
            "severity": [key.severity for key in keys],
        }
    )
    steps = system.timesteps + 1
    with_ids = next((cell for cell, _ in found if "image" in cell.columns), None)
    images = with_ids.column("image")[::steps] if with_ids is not None else np.empty(0, dtype=object)
    model = first.provenance.get("model")
    classes = model.get("num_classes", 0) if isinstance(model, dict) else 0
    return Answers(
        system,
        label or system.model.label,
        suite,
        conditions,
        keys,
        np.asarray(images, dtype=object),
        list(range(steps)),
        np.stack([value for _, value in found]),
        classes if isinstance(classes, int) else 0,
        tuple(dict.fromkeys(str(cell.provenance.get("device", "")) for cell, _ in found)),
    )


def every(study: Study, column: str = "correct", suites: Sequence[str] = ()) -> dict[str, list[Answers]]:
    """Suite -> `answers` of each system in it, labelled so that no two of the study are called the same.

    Raises:
        UserError: a suite that the study does not have.
    """
    names = labels(study.systems())
    found: dict[str, list[Answers]] = {}
    for suite in suites or study.suite_names():
        for system, part in study.select(suite=suite).systems().items():
            try:
                found.setdefault(suite, []).append(answers(part, column, label=names[system], suite=suite))
            except UserError as error:
                study.note(str(error))
    return found
