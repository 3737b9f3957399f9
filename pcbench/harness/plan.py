"""From a request to cells: everything that can be refused is refused here, before anything is written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pcbench.config import RunConfig
from pcbench.data.geometry import Geometry
from pcbench.data.registry import load_data
from pcbench.errors import UserError
from pcbench.keys import CellKey, Condition, DataKey, Measure, ModelKey, digest_of
from pcbench.models.base import TemporalClassifier
from pcbench.models.checksum import checksum, settings_checksum
from pcbench.models.resolve import Resolved, find, resolve
from pcbench.numerics import NUMERICS, sources_digest
from pcbench.perturbations.base import KINDS
from pcbench.suites.registry import Suite, load_suite

_FOR_EACH = 4  # groups for each of several workers, at least
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Subject:
    """A model under test.

    Attributes:
        key: what it is.
        resolved: as it was found.
        model: loaded, in eval mode.
        geometry: how images are prepared for it.
    """

    key: ModelKey
    resolved: Resolved
    model: TemporalClassifier
    geometry: Geometry

    @property
    def label(self) -> str:
        """What people call it."""
        return self.key.label

    def described(self) -> dict[str, Any]:
        """What every cell's provenance says about it."""
        return {
            "family": self.resolved.family,
            "num_classes": self.model.num_classes,
            "has_dynamics": self.model.has_dynamics,
            "provenance": json.loads(json.dumps(self.model.provenance, default=str)),
        }


@dataclass(frozen=True)
class Cell:
    """One model under one condition.

    Attributes:
        subject: index of the model.
        condition: settled for this model.
        timesteps: T; 0 for a model without dynamics.
        measure: "predictions" or "representations".
    """

    subject: int
    condition: Condition
    timesteps: int
    measure: Measure


@dataclass(frozen=True)
class Group:
    """Cells whose images are prepared together and shared: of conditions that have work in common, for all models.

    The unit of work of an engine. Its cells are evaluated side by side, batch by batch, and are finished together.

    Attributes:
        geometry: of the images.
        cells: in order.
        together: each cell applies its own condition to the clean images, beside the model, because its
            representations are compared with the clean ones.
    """

    geometry: Geometry
    cells: tuple[Cell, ...]
    together: bool = False

    @property
    def conditions(self) -> list[Condition]:
        """Those that are applied before the models, in order; for `together` cells the first one."""
        return list(dict.fromkeys(cell.condition for cell in (self.cells[:1] if self.together else self.cells)))

    def parts(self, most: int) -> list["Group"]:
        """The group in parts that are alike in size, of at most so many conditions."""
        conditions = self.conditions
        count = -(-len(conditions) // most)
        if count == 1:
            return [self]
        share = -(-len(conditions) // count)
        chosen = (conditions[start : start + share] for start in range(0, len(conditions), share))
        return [replace(self, cells=tuple(cell for cell in self.cells if cell.condition in some)) for some in chosen]

    def without(self, done: Mapping[Cell, object]) -> "Group | None":
        """What is left of it; None when nothing is."""
        left = tuple(cell for cell in self.cells if cell not in done)
        return replace(self, cells=left) if left else None


def divide(groups: Sequence[Group], workers: int) -> list[Group]:
    """Groups for several workers: in parts as large as can be, while there are at least four for each worker.

    Conditions of one group share work, but one worker does it. With few groups for many workers, some would wait for
    the last ones: that costs more than sharing saves.
    """
    for most in range(max((len(group.conditions) for group in groups), default=1), 1, -1):
        parts = [part for group in groups for part in group.parts(most)]
        if len(parts) >= _FOR_EACH * workers:
            return parts
    return [part for group in groups for part in group.parts(1)]


@dataclass(frozen=True)
class Plan:
    """A run, settled.

    Attributes:
        config: what was asked.
        subjects: the models.
        suites: as they were asked for, and `of_suite` the cells that each comes to.
        label_space: whose classes the labels must be.
        notices: what was chosen for the user.
    """

    config: RunConfig
    subjects: tuple[Subject, ...]
    suites: tuple[Suite, ...]
    of_suite: tuple[tuple[Cell, ...], ...]
    label_space: str
    notices: tuple[str, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, each once, in order."""
        return tuple(dict.fromkeys(cell for cells in self.of_suite for cell in cells))

    @property
    def dtype(self) -> torch.dtype:
        """Of autocast; torch.float32 for none."""
        return DTYPES[self.config.dtype]

    def key(self, cell: Cell, data: DataKey) -> CellKey:
        """What a cell is, on these images."""
        config = self.config
        return CellKey(
            self.subjects[cell.subject].key,
            data,
            cell.condition,
            cell.timesteps,
            cell.measure,
            config.seed,
            config.dtype,
            NUMERICS,
            config.settings(),
        )

    def groups(self, cells: Sequence[Cell]) -> list[Group]:
        """The groups that the cells make, in the order of the plan."""
        found: dict[tuple[object, ...], list[Cell]] = {}
        for cell in cells:
            geometry = self.subjects[cell.subject].geometry
            if cell.measure == "representations":
                key: tuple[object, ...] = (cell.subject, cell.timesteps, cell.measure)
            else:
                kind = cell.condition.kind
                key = (geometry, kind, KINDS[kind].family(cell.condition) or cell.condition)
            found.setdefault(key, []).append(cell)
        return [
            Group(self.subjects[cells[0].subject].geometry, tuple(cells), cells[0].measure == "representations")
            for cells in found.values()
        ]

    def identity(self, data: DataKey) -> str:
        """Digest of all that decides the results, and of the code that computes them: what several hosts agree on."""
        return digest_of([[self.key(cell, data).digest for cell in self.cells], sources_digest()])

    def longest(self) -> dict[int, int]:
        """Index of each model -> the longest T that it is run for."""
        found = dict.fromkeys(range(len(self.subjects)), 0)
        for cell in self.cells:
            found[cell.subject] = max(found[cell.subject], cell.timesteps)
        return found


def make_plan(config: RunConfig, device: torch.device, suites: Sequence[Suite] = ()) -> Plan:
    """Settle a run: find and load models and suites, and expand conditions into cells.

    Args:
        config: what is asked.
        device: for the models.
        suites: instead of those that the names in the config stand for here.

    Raises:
        UserError: anything that the request names does not exist, or does not go together.
    """
    suites = [
        _with_overrides(suite, config.overrides()) for suite in suites or [load_suite(name) for name in config.suite]
    ]
    names = [suite.name for suite in suites]
    if len(set(names)) < len(names):
        raise UserError(f"two suites are called {next(name for name in names if names.count(name) > 1)!r}")
    choices = [_choose(name, config) for name in config.model]
    _check_options(config, choices)
    spaces = {choice.label_space for choice in choices if not choice.any_order} or {choices[0].label_space}
    if len(spaces) > 1:
        raise UserError(f"the models know different classes ({', '.join(sorted(spaces))}); run them apart")
    subjects, merging = _subjects(choices, device, config.seed)
    of_suite = tuple(
        tuple(
            dict.fromkeys(
                cell
                for condition in suite.conditions
                for index, subject in enumerate(subjects)
                for cell in _cells(index, subject, suite, condition, config)
            )
        )
        for suite in suites
    )
    if not any(of_suite):
        raise UserError(f"suite {names[0]} has no condition for {subjects[0].label}")
    given = (notice for choice in choices for notice in choice.notices)
    notices = tuple(dict.fromkeys([*given, *(line for line in merging if line is not None)]))
    plan = Plan(config, tuple(subjects), tuple(suites), of_suite, spaces.pop(), notices)
    if config.dtype != "float32" and all(KINDS[cell.condition.kind].shared for cell in plan.cells):
        for subject in subjects:  # what asks the model itself (attacks) does so in float32, without autocast
            subject.model.hold_weights_in(plan.dtype)
    return plan


def _key(choice: Resolved, model: TemporalClassifier) -> ModelKey:
    """What a model is, as it was built and before its layers are merged."""
    source = digest_of([choice.source, settings_checksum(model)]) if choice.source else ""
    return ModelKey(choice.name, choice.weights, choice.options, checksum(model), source)


def _subjects(choices: Sequence[Resolved], device: torch.device, seed: int) -> tuple[list[Subject], list[str | None]]:
    """The models, and for each the notice that merging its layers gave."""
    models = [choice.build(device, seed) for choice in choices]
    keys: dict[str, ModelKey] = {}
    for choice, model in zip(choices, models, strict=True):
        key = _key(choice, model)
        if _place(choice) in keys:
            raise UserError(f"model {key.label} [{key.weights}] is given twice")
        keys[_place(choice)] = key
    subjects, notices = [], []
    for choice, model, key in zip(choices, models, keys.values(), strict=True):
        baseline = None if choice.baseline is None else keys.get(_place(choice.baseline))
        if choice.baseline is not None and baseline is None:
            other = choice.baseline
            baseline = _key(other, other.build("cpu", seed))
        notices.append(model.merge_layers(_pictures(model, device)))
        subjects.append(Subject(replace(key, baseline=baseline), choice, model, Geometry.of(model.preprocessing)))
    return subjects, notices


def _pictures(model: TemporalClassifier, device: torch.device) -> torch.Tensor:
    """Two real images as the model takes them, (2, C, H, W), the same in every process that makes this plan."""
    channels, height, width = model.input_size
    images = load_data("samples")
    prepared = [Geometry((height, width), min(height, width)).prepare(images.read(index)) for index in (0, 1)]
    floats = torch.from_numpy(np.stack(prepared)).to(device).permute(0, 3, 1, 2).float() / 255
    return floats if channels == 3 else floats.mean(1, keepdim=True).expand(-1, channels, -1, -1)


def _place(choice: Resolved) -> str:
    return digest_of([choice.name, choice.weights, choice.options])


def _choose(name: Any, config: RunConfig) -> Resolved:
    named = find(name)
    options = {option: value for option, value in config.model_options().items() if option in named.spec.options}
    weights = config.weights if named.tag is None else None
    return resolve(name, weights, options=options, cross=config.data is None)


def _check_options(config: RunConfig, choices: Sequence[Resolved]) -> None:
    for option in config.model_options():
        if not any(option in choice.spec.options for choice in choices):
            raise UserError(f"none of the models has an option {option!r} (a predictive network has)")


def _with_overrides(suite: Suite, overrides: Mapping[str, Mapping[str, object]]) -> Suite:
    conditions = [
        replace(condition, params={**condition.params, **overrides.get(condition.kind, {})})
        for condition in suite.conditions
    ]
    return replace(suite, conditions=conditions)


def _cells(index: int, subject: Subject, suite: Suite, condition: Condition, config: RunConfig) -> list[Cell]:
    model = subject.model
    if suite.measure == "representations" and not model.has_representations:
        raise UserError(
            f"suite {suite.name} compares representations; {subject.label} has none (predictive networks do)"
        )
    timesteps = 0
    if model.has_dynamics:
        chosen = (config.timesteps, suite.timesteps, model.timesteps)
        timesteps = next(value for value in chosen if value is not None)
    settled = KINDS[condition.kind].for_model(condition, model, timesteps)
    return [Cell(index, one, timesteps, suite.measure) for one in settled]
