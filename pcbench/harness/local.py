"""The local engine: one process beside the model, worker processes for the perturbations."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pcbench.harness.evaluate import Batch, Chunks, Evaluation, Finished, Glance, evaluate_together, to_batch
from pcbench.harness.images import Images, Store, View
from pcbench.harness.pipeline import Pipeline, Task
from pcbench.harness.plan import Group, Plan
from pcbench.perturbations.base import KINDS, Perturbation

_PORTION = 40_000_000  # bytes of images, all conditions of a group together, that a worker makes at once


class Observer(Protocol):
    """Is told how the sweep gets on."""

    def batch(self, glance: Glance, images: int) -> None:
        """`images` more images of a cell are done."""


@dataclass(frozen=True)
class Beat:
    """`images` more images of a cell are done, which gets on as `glance` says."""

    glance: Glance
    images: int


@dataclass(frozen=True)
class Settings:
    """How to compute; decides nothing about the result.

    Attributes:
        device: of the models.
        batch_size: number of images handed to a model at once.
        workers: processes that perturb images.
        compile: pass the models through torch.compile where that pays.
        routes: by index of the model, what its large predictors take: records of `choose_routes`, for every worker.
    """

    device: torch.device
    batch_size: int
    workers: int
    compile: bool = False
    routes: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def recorded(self) -> dict[str, object]:
        """What run.json says about it."""
        return {
            "batch_size": self.batch_size,
            "workers": self.workers,
            "threads": torch.get_num_threads(),
            "compile": self.compile,
            "memory_format": "channels_last",
        }


def evaluate(
    plan: Plan, groups: Iterable[Group], images: Images, settings: Settings, observer: Observer
) -> Iterator[Finished]:
    """Evaluate groups in order; yields the cells of each group when they are finished.

    Raises:
        RunError: a model's logits are not finite, memory for not even one image, or workers that keep dying.
    """
    with Pipeline(settings.workers, images.folder) as pipeline:
        for event in events(plan, groups, images.view(), settings, pipeline, Chunks(settings.batch_size)):
            if isinstance(event, Beat):
                observer.batch(event.glance, event.images)
            else:
                yield event


def events(
    plan: Plan, groups: Iterable[Group], images: View[Store], settings: Settings, pipeline: Pipeline, chunks: Chunks
) -> Iterator[Beat | Finished]:
    """Evaluate groups in order; yields how they get on, and their cells. What `evaluate` and other engines share.

    Batches are the outer loop and the conditions of a group the inner one. Groups are asked for when their images are
    to be prepared, which is a little before the model sees them.
    """
    size, seed = settings.batch_size, plan.config.seed

    def batches_of(group: Group) -> list[range]:
        # attacks drop the images that are done, which pays where there are many to go on with
        at_once = max(size, KINDS[group.conditions[0].kind].wanted_at_once or 1)
        return [range(start, min(start + at_once, len(images.ids))) for start in range(0, len(images.ids), at_once)]

    def tasks() -> Iterator[Task]:
        for group in by_source(groups, images):
            ahead = _perturbations(group, images) if _is_ahead(group, settings.device) else ()
            source, _ = images.source(group.conditions[0], group.geometry)
            for batch in batches_of(group):
                for rows in _portions(batch, group):
                    part, positions = source.part(tuple(rows))
                    yield Task(part, positions, tuple(images.ids[row] for row in rows), ahead, seed, group)

    stream = pipeline.stream(tasks())
    while True:
        waited = time.perf_counter()
        first = next(stream, None)  # tells which group comes
        if first is None:
            return
        group: Group = first[0].tag
        perturbations = _perturbations(group, images)
        on_device = bool(perturbations) and not _is_ahead(group, settings.device)
        evaluations = [Evaluation(cell, plan.subjects[cell.subject], seed, plan.dtype) for cell in group.cells]
        of_each = [[each for each in evaluations if each.cell.condition == one] for one in group.conditions]
        for number, rows in enumerate(batches_of(group)):
            if number:
                waited = time.perf_counter()
            wanted = len(_portions(rows, group))
            portions = [first] if number == 0 else []
            portions += [next(stream) for _ in range(wanted - len(portions))]
            waited = time.perf_counter() - waited
            seconds = sum(portion for _, _, portion in portions)
            ids, labels = [images.ids[row] for row in rows], [images.labels[row] for row in rows]
            made = [_joined(parts) for parts in zip(*(parts for _, parts, _ in portions), strict=True)]
            del portions
            if on_device:
                made = type(perturbations[0]).all_on_uint8(perturbations, made[0].to(settings.device), ids, seed)
            for evaluation in evaluations:
                evaluation.seconds["data"] += waited / len(evaluations)
                evaluation.seconds["perturbation"] += seconds / len(evaluations)
            for some, pixels in zip([evaluations] if group.together else of_each, made, strict=True):
                yield from _through(some, to_batch(pixels, labels, ids, settings.device), group, chunks)
        del first
        yield from (evaluation.finished() for evaluation in evaluations)


def by_source(groups: Iterable[Group], images: View[Store]) -> Iterator[Group]:
    """The same groups, but of one condition each where its images lie on disk: there is no work to share."""

    def on_disk(group: Group) -> bool:
        return any(images.source(condition, group.geometry)[1] for condition in group.conditions)

    for group in groups:
        yield from group.parts(1) if on_disk(group) else [group]


def _perturbations(group: Group, images: View[Store]) -> tuple[Perturbation, ...]:
    """What is done to the images of a group before the conversion to float: by workers, or beside the model."""
    kind = KINDS[group.conditions[0].kind]
    _, perturbed = images.source(group.conditions[0], group.geometry)
    if perturbed or group.together or kind.on_uint8 is Perturbation.on_uint8:
        return ()
    return tuple(kind(condition) for condition in group.conditions)


def _is_ahead(group: Group, device: torch.device) -> bool:
    """Whether workers perturb the images of a group, if anybody does."""
    return not (KINDS[group.conditions[0].kind].on_device and device.type == "cuda")


def _portions(rows: range, group: Group) -> list[range]:
    """A batch in portions for the workers, so that memory and files do not grow with the number of conditions."""
    height, width = group.geometry.size
    count = -(-len(rows) * len(group.conditions) * height * width * 3 // _PORTION)
    share = -(-len(rows) // min(count, len(rows)))
    return [rows[start : start + share] for start in range(0, len(rows), share)]


def _joined(parts: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    return torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts))


def _through(evaluations: list[Evaluation], batch: Batch, group: Group, chunks: Chunks) -> Iterator[Beat]:
    if group.together:
        chunks.each(batch, lambda part: evaluate_together(evaluations, part))
        yield from (Beat(evaluation.glance(), len(batch.ids)) for evaluation in evaluations)
        return
    for evaluation in evaluations:

        def work(part: Batch, evaluation: Evaluation = evaluation) -> None:
            evaluation.answer(*evaluation.perturb(part))

        if evaluation.perturbation.wanted_at_once is not None:  # it looks after memory by itself
            perturbed, columns = evaluation.perturb(batch)
            whole = replace(perturbed, columns=columns)
            chunks.each(whole, evaluation.answer_perturbed)
        else:
            chunks.each(batch, work)
        yield Beat(evaluation.glance(), len(batch.ids))
