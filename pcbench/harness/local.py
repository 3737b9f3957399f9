"""The local engine: one process beside the model, worker processes for the perturbations."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from pcbench.harness.evaluate import Batch, Chunks, Evaluation, Finished, Glance, evaluate_together, to_batch
from pcbench.harness.images import Images, Store, View
from pcbench.harness.pipeline import Pipeline, Task
from pcbench.harness.plan import DTYPES, Group, Plan
from pcbench.perturbations.base import KINDS, Perturbation


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
    """

    device: torch.device
    batch_size: int
    workers: int
    compile: bool = False

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
    plan: Plan, groups: Sequence[Group], images: Images, settings: Settings, observer: Observer
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
    plan: Plan, groups: Sequence[Group], images: View[Store], settings: Settings, pipeline: Pipeline, chunks: Chunks
) -> Iterator[Beat | Finished]:
    """Evaluate groups in order; yields how they get on, and their cells. What `evaluate` and other engines share."""
    size = settings.batch_size
    starts = range(0, len(images.ids), size)

    def tasks() -> Iterator[Task]:
        for group in groups:
            ahead = _ahead(group, settings.device)
            source, perturbed = images.source(group.condition, group.geometry)
            for start in starts:
                rows = tuple(range(start, min(start + size, len(images.ids))))
                ids = tuple(images.ids[row] for row in rows)
                part, positions = source.part(rows)
                yield Task(part, positions, ids, None if perturbed else ahead, plan.request.seed, (rows, perturbed))

    stream = pipeline.stream(tasks())
    for group in groups:
        evaluations = [
            Evaluation(cell, plan.subjects[cell.subject], images.name, plan.request.seed, DTYPES[plan.request.dtype])
            for cell in group.cells
        ]
        for _ in starts:
            waited = time.perf_counter()
            task, pixels, seconds = next(stream)
            waited = time.perf_counter() - waited
            rows, perturbed = task.tag
            on_device = not perturbed and not group.together and evaluations[0].perturbation.on_device
            tensor = torch.from_numpy(pixels)
            if on_device and settings.device.type == "cuda":
                tensor = evaluations[0].perturbation.on_uint8(
                    tensor.to(settings.device), list(task.ids), plan.request.seed
                )
            batch = to_batch(tensor, [images.labels[row] for row in rows], task.ids, settings.device)
            for evaluation in evaluations:
                evaluation.seconds["data"] += waited / len(evaluations)
                evaluation.seconds["perturbation"] += seconds / len(evaluations)
            yield from _through(evaluations, batch, group, chunks)
        yield from (evaluation.finished() for evaluation in evaluations)


def _ahead(group: Group, device: torch.device) -> Perturbation | None:
    """What the workers do to the images of a group; None when that is nothing, or is done beside the model."""
    perturbation = KINDS[group.condition.kind](group.condition)
    if group.together or type(perturbation).on_uint8 is Perturbation.on_uint8:
        return None
    return None if perturbation.on_device and device.type == "cuda" else perturbation


def _through(evaluations: list[Evaluation], batch: Batch, group: Group, chunks: Chunks) -> Iterator[Beat]:
    if group.together:
        chunks.each(batch, lambda part: evaluate_together(evaluations, part))
        yield from (Beat(evaluation.glance(), len(batch.ids)) for evaluation in evaluations)
        return
    for evaluation in evaluations:

        def work(part: Batch, evaluation: Evaluation = evaluation) -> None:
            evaluation.answer(*evaluation.perturb(part))

        chunks.each(batch, work)
        yield Beat(evaluation.glance(), len(batch.ids))
