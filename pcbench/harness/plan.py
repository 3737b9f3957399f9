"""From arguments to cells: everything that can be refused is refused here, before anything is written."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch

from pcbench.data.geometry import Geometry
from pcbench.errors import UserError, did_you_mean
from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier
from pcbench.models.loading import Choice, build, choose
from pcbench.perturbations.base import KINDS
from pcbench.results.schema import SCHEMA_VERSION, ModelInfo
from pcbench.suites.registry import Suite, load_suite

_FOR_EACH = 4  # groups for each of several workers, at least
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Request:
    """What decides the results of a run; what is not here (batch size, workers, engine, ...) does not.

    Attributes:
        models: names, see `pcbench.models.loading.find_model`.
        suites: names or paths of suite files.
        weights: tag for all models; None for each one's first at hand.
        data: name or path; None for what is at hand.
        timesteps: T; None for the suite's, or the model's default.
        limit: number of images, chosen evenly over classes; None for all.
        seed: of everything random.
        dtype: "float32" or "bfloat16" (autocast).
        tf32: whether convolutions and matrix products on CUDA may round float32 operands to TF32.
        skip_bad_images: go on without images that cannot be decoded.
        options: for the models that know them, e.g. {"dynamics": "no-error"}.
        overrides: kind of perturbation -> parameters for its conditions, e.g. {"corruption": {"backend": "native"}}.
    """

    models: tuple[str, ...]
    suites: tuple[str, ...]
    weights: str | None = None
    data: str | None = None
    timesteps: int | None = None
    limit: int | None = None
    seed: int = 0
    dtype: str = "float32"
    tf32: bool = False
    skip_bad_images: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def check(self) -> None:
        """Raises UserError for values that no run can have."""
        if not self.models:
            raise UserError("no model given: --model NAME (pcbench models lists them)")
        if not self.suites:
            raise UserError("no suite given: --suite NAME (pcbench suites lists them)")
        for what, names in (("model", self.models), ("suite", self.suites)):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise UserError(f"{what} {twice[0]!r} is given twice")
        if self.timesteps is not None and self.timesteps < 0:
            raise UserError(
                f"timesteps is {self.timesteps}; it counts updates after the feedforward pass, so 0 or more"
            )
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit is {self.limit}; it counts images, so 1 or more")
        if self.dtype not in DTYPES:
            raise UserError(f"no dtype {self.dtype!r}; {did_you_mean(self.dtype, DTYPES)}")


@dataclass(frozen=True)
class Subject:
    """A model under test.

    Attributes:
        label: what records call it: its name with the options that were given.
        choice: as it was found.
        model: loaded, in eval mode.
        geometry: how images are prepared for it.
    """

    label: str
    choice: Choice
    model: TemporalClassifier
    geometry: Geometry

    def info(self, timesteps: int) -> ModelInfo:
        """What run.json says about it."""
        return ModelInfo(
            name=self.label,
            weights=self.model.weights,
            family=self.choice.spec.family,
            baseline=self.choice.spec.baseline,
            timesteps=timesteps,
            num_classes=self.model.num_classes,
            has_dynamics=self.model.has_dynamics,
            provenance=json.loads(json.dumps(self.model.provenance, default=str)),
        )


@dataclass(frozen=True)
class Cell:
    """One model under one condition.

    Attributes:
        subject: index of the model.
        condition: settled for this model.
        timesteps: T; 0 for a model without dynamics.
        measure: "predictions" or "representations".
        key: names the cell in run.json and on disk.
    """

    subject: int
    condition: Condition
    timesteps: int
    measure: str
    key: str


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
        found: list[Condition] = []
        for cell in self.cells[:1] if self.together else self.cells:
            if cell.condition not in found:
                found.append(cell.condition)
        return found

    def parts(self, most: int) -> list["Group"]:
        """The group in parts that are alike in size, of at most so many conditions."""
        conditions = self.conditions
        count = -(-len(conditions) // most)
        if count == 1:
            return [self]
        share = -(-len(conditions) // count)
        chosen = (conditions[start : start + share] for start in range(0, len(conditions), share))
        return [replace(self, cells=tuple(cell for cell in self.cells if cell.condition in some)) for some in chosen]


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
    """A run, settled. `label_space` is whose classes the labels must be."""

    request: Request
    subjects: tuple[Subject, ...]
    suites: tuple[Suite, ...]
    cells: tuple[Cell, ...]
    label_space: str
    notices: tuple[str, ...]

    def groups(self, cells: Sequence[Cell]) -> list[Group]:
        """The groups that the cells make, in the order of the plan."""
        found: dict[tuple[object, ...], list[Cell]] = {}
        for cell in cells:
            geometry = self.subjects[cell.subject].geometry
            if cell.measure == "representations":
                key: tuple[object, ...] = (cell.subject, cell.condition.suite, cell.measure)
            else:
                kind = cell.condition.kind
                family = KINDS[kind].family(cell.condition) or json.dumps(asdict(cell.condition), sort_keys=True)
                key = (geometry, cell.condition.suite, kind, family)
            found.setdefault(key, []).append(cell)
        return [
            Group(self.subjects[cells[0].subject].geometry, tuple(cells), cells[0].measure == "representations")
            for cells in found.values()
        ]

    def model_infos(self) -> list[ModelInfo]:
        """The models for run.json."""
        longest = [0] * len(self.subjects)
        for cell in self.cells:
            longest[cell.subject] = max(longest[cell.subject], cell.timesteps)
        return [subject.info(timesteps) for subject, timesteps in zip(self.subjects, longest, strict=True)]

    def identity(self, fingerprint: str, device: str = "cpu") -> str:
        """Digest of all that decides the results, given the images' fingerprint and the kind of device."""
        decides = {
            "schema": SCHEMA_VERSION,
            "models": [info.model_dump() for info in self.model_infos()],
            "suites": [(suite.name, suite.version, suite.digest()) for suite in self.suites],
            "cells": [(cell.key, cell.timesteps, asdict(cell.condition)) for cell in self.cells],
            "data": fingerprint,
            "seed": self.request.seed,
            "dtype": self.request.dtype,
            **({} if device == "cpu" else {"device": device}),
            **({"tf32": True} if self.request.tf32 else {}),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()


def make_plan(request: Request, device: torch.device) -> Plan:
    """Settle a run: find and load models and suites, and expand conditions into cells.

    Raises:
        UserError: anything that the request names does not exist, or does not go together.
    """
    request.check()
    suites = [_with_overrides(load_suite(name), request.overrides) for name in request.suites]
    names = [suite.name for suite in suites]
    if len(set(names)) < len(names):
        raise UserError(f"two suites are called {next(name for name in names if names.count(name) > 1)!r}")
    choices = [_choose(name, request) for name in request.models]
    _check_options(request, choices)
    spaces = {choice.weights.data for choice in choices}
    if len(spaces) > 1:
        raise UserError(f"the models know different classes ({', '.join(sorted(spaces))}); run them apart")
    subjects = []
    for choice in choices:
        model = build(choice, device, request.seed)
        subjects.append(Subject(_label(choice), choice, model, Geometry.of(model.preprocessing)))
    labels = [subject.label for subject in subjects]
    if len(set(labels)) < len(labels):
        raise UserError(f"model {next(label for label in labels if labels.count(label) > 1)!r} is given twice")
    # By key: "T" and "T/2" can be the same timestep, and every timestep of a feedforward network is 0.
    settled: dict[str, Cell] = {}
    for suite in suites:
        for condition in suite.conditions:
            for index, subject in enumerate(subjects):
                for cell in _cells(index, subject, suite, condition, request):
                    settled.setdefault(cell.key, cell)
    cells = tuple(settled.values())
    if not cells:
        raise UserError(f"suite {names[0]} has no condition for {labels[0]}")
    notices = tuple(choice.notice for choice in choices if choice.notice is not None)
    if request.dtype != "float32" and all(KINDS[cell.condition.kind].shared for cell in cells):
        for subject in subjects:  # what asks the model itself (attacks) does so in float32, without autocast
            subject.model.hold_weights_in(DTYPES[request.dtype])
    return Plan(request, tuple(subjects), tuple(suites), cells, spaces.pop(), notices)


def _choose(name: str, request: Request) -> Choice:
    bare = choose(name, request.weights)
    known = {option: value for option, value in request.options.items() if option in bare.spec.options}
    return choose(name, request.weights, **known) if known else bare


def _check_options(request: Request, choices: Sequence[Choice]) -> None:
    for option in request.options:
        if not any(option in choice.spec.options for choice in choices):
            raise UserError(f"none of the models has an option {option!r} (a predictive network has)")


def _label(choice: Choice) -> str:
    """A model's name in records: with its options, and files by their last part only."""
    if not choice.options:
        return choice.spec.name
    values = (f"{name}={str(value).replace(chr(92), '/').rsplit('/', 1)[-1]}" for name, value in choice.options.items())
    return f"{choice.spec.name}?{'&'.join(sorted(values))}"


def _with_overrides(suite: Suite, overrides: Mapping[str, Mapping[str, object]]) -> Suite:
    conditions = [
        replace(condition, params={**condition.params, **overrides.get(condition.kind, {})})
        for condition in suite.conditions
    ]
    return replace(suite, conditions=conditions)


def _cells(index: int, subject: Subject, suite: Suite, condition: Condition, request: Request) -> list[Cell]:
    model = subject.model
    if suite.measure == "representations" and not model.has_representations:
        raise UserError(
            f"suite {suite.name} compares representations; {subject.label} has none (predictive networks do)"
        )
    timesteps = 0
    if model.has_dynamics:
        chosen = (request.timesteps, suite.timesteps, model.timesteps)
        timesteps = next(value for value in chosen if value is not None)
    settled = KINDS[condition.kind].for_model(condition, model, timesteps)
    return [
        Cell(index, one, timesteps, suite.measure, f"{subject.label} {suite.name} {one.perturbation} {one.severity:g}")
        for one in settled
    ]
