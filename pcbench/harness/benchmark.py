"""Measure on this machine, briefly, what `pcbench.harness.estimate` needs to know of a run."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import psutil
import torch

from pcbench.config import RunConfig
from pcbench.data.images import choose_positions
from pcbench.harness.compute import batch_for, memory_of_one
from pcbench.harness.estimate import ModelTiming, Timings, Work
from pcbench.harness.evaluate import Batch, Evaluation, to_batch
from pcbench.harness.images import Images
from pcbench.harness.local import by_source
from pcbench.harness.pipeline import Pipeline, Task, prepare
from pcbench.harness.plan import Cell, Group, Plan, make_plan
from pcbench.harness.width import images_for
from pcbench.keys import DataKey
from pcbench.perturbations.base import KINDS, Perturbation
from pcbench.results.cell import encode

SAMPLE = 16  # images that are decoded
EACH = 2  # images that each condition is tried on
TOGETHER = 8  # and each attack: it goes through the model many times, and few images make it seem slower than it is
PASSES = 3  # of a model, of which the median counts


def measure(
    config: RunConfig,
    device: torch.device,
    batch_size: int | None,
    workers: int,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Timings, Work]:
    """Time the parts of a run on a few of its images.

    Args:
        config: of the run.
        device: of the models.
        batch_size: None for the one that the run would choose.
        workers: processes that perturb images.
        say: is told what is being measured.

    Returns:
        What was measured, and what the run has to do.

    Raises:
        UserError: the run would be refused.
    """
    start = time.perf_counter()
    say("loading models")
    plan = make_plan(config, device)
    data, _ = images_for(config.data, plan.label_space, [subject.model for subject in plan.subjects])
    opening = time.perf_counter() - start
    count = len(choose_positions(data, config.limit))
    geometries = [subject.geometry for subject in plan.subjects]
    conditions = [cell.condition for cell in plan.cells]
    say("decoding images")
    start = time.perf_counter()
    sample = min(SAMPLE, count)
    images = Images(data, geometries, sample, config.skip_bad_images, conditions, os.cpu_count() or 1)
    decoding = (time.perf_counter() - start) / sample if images.has_clean else 0.0
    try:
        size = min(batch_size or batch_for(plan, device, count), count)
        models = {}
        for index, subject in enumerate(plan.subjects):
            say(f"timing {subject.label} with batches of {size}")
            models[subject.label] = _model(plan, index, images, size, device)
        groups = list(by_source(plan.groups(plan.cells), images.view()))
        say(f"timing {sum(len(group.conditions) for group in groups)} conditions")
        ahead, beside = _conditions(plan, groups, images, size, device)
        say("timing what is written")
        writing, row, cell = _records(plan, images, device)
        say("starting a worker")
        started, resident = _worker(groups, images) if workers else (0.0, 0)
    finally:
        images.close()
    timings = Timings(
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        workers=workers,
        on_cpu=device.type == "cpu",
        opening=opening,
        decoding=decoding,
        models=models,
        ahead=ahead,
        beside=beside,
        writing=writing,
        worker_start=started,
        process=psutil.Process().memory_info().rss,
        worker=resident,
        row=row,
        cell=cell,
    )
    pixels = sum(3 * geometry.size[0] * geometry.size[1] for geometry in set(geometries))
    work = Work(
        images=count,
        bytes_per_image=pixels if images.has_clean else 0,
        groups=[(_name(group), [_share(plan, cell) for cell in group.cells]) for group in groups],
    )
    return timings, work


def _name(group: Group) -> str:
    first, severities = group.conditions[0], [f"{condition.severity:g}" for condition in group.conditions]
    return f"{first.kind} {first.perturbation} {','.join(severities)}"


def _share(plan: Plan, cell: Cell) -> tuple[str, int]:
    return plan.subjects[cell.subject].label, cell.timesteps


def _evaluation(plan: Plan, cell: Cell) -> Evaluation:
    return Evaluation(cell, plan.subjects[cell.subject], plan.config.seed, plan.dtype)


def _batch(images: Images, group: Group, count: int, device: torch.device) -> Batch:
    """`count` images of a group, unperturbed where it has such, over and over again where there are fewer."""
    rows = [row % len(images.ids) for row in range(count)]
    source, _ = images.source(group.conditions[0], group.geometry)
    pixels = torch.from_numpy(source.read(rows))
    return to_batch(pixels, [images.labels[row] for row in rows], [images.ids[row] for row in rows], device)


def _seconds(work: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Median of several."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def _model(plan: Plan, index: int, images: Images, size: int, device: torch.device) -> ModelTiming:
    """A pass at t = 0 and one of two timesteps tell what each costs."""
    cell = max((cell for cell in plan.cells if cell.subject == index), key=lambda cell: cell.timesteps)
    group = next(group for group in plan.groups(plan.cells) if cell in group.cells)
    batch, taken = _batch(images, group, size, device), {}
    for steps in sorted({0, min(2, cell.timesteps)}):
        evaluation = _evaluation(plan, replace(cell, timesteps=steps))

        def once(evaluation: Evaluation = evaluation) -> None:
            evaluation.answer(batch, {})

        once()  # the first pass finds its kernels and memory
        taken[steps] = _seconds(once, device, PASSES) / size
    longest = max(taken)
    step = max(0.0, (taken[longest] - taken[0]) / longest) if longest else 0.0
    subject = plan.subjects[index]
    needed = memory_of_one(subject.model, cell.timesteps, device, plan.dtype)
    return ModelTiming(first=taken[0], step=step, memory=size * needed)


def _conditions(
    plan: Plan, groups: list[Group], images: Images, size: int, device: torch.device
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds per image of each group's conditions: before the model, of all; and with its help, of each."""
    ahead, beside = {}, {}
    known: dict[tuple[str, str], float] = {}  # an attack takes as long at every radius
    warm: set[str] = set()
    for group in groups:
        name = _name(group)
        conditions = group.conditions
        source, perturbed = images.source(conditions[0], group.geometry)
        perturbations = tuple(KINDS[condition.kind](condition) for condition in conditions)
        kind = type(perturbations[0])
        rows = tuple(range(min(EACH, len(images.ids))))
        ids = tuple(images.ids[row] for row in rows)
        if not perturbed and kind.on_device and device.type == "cuda":  # beside the model, not in the workers
            pixels = torch.from_numpy(source.read(rows)).to(device)
            once = partial(kind.all_on_uint8, perturbations, pixels, list(ids), plan.config.seed)
            once()
            seconds = _seconds(once, device)
            beside[f"{plan.subjects[group.cells[0].subject].label} {name}"] = seconds / len(rows) / len(conditions)
        elif not perturbed and kind.on_uint8 is not Perturbation.on_uint8:
            task = Task(source, rows, ids, perturbations, plan.config.seed, None)
            if conditions[0].perturbation not in warm:  # compilers and tables
                prepare(task)
                warm.add(conditions[0].perturbation)
            ahead[name] = _seconds(partial(prepare, task), torch.device("cpu")) / len(rows)
        if kind.on_float is Perturbation.on_float:
            continue
        batch = _batch(images, group, min(TOGETHER, size), device)
        for cell in group.cells:
            label = plan.subjects[cell.subject].label
            key = (label, cell.condition.perturbation)
            if key not in known:
                evaluation = _evaluation(plan, cell)
                known[key] = _seconds(partial(evaluation.perturb, batch), device) / len(batch.ids)
            beside[f"{label} {name}"] = known[key]
    return ahead, beside


def _records(plan: Plan, images: Images, device: torch.device) -> tuple[float, float, float]:
    """Seconds to make and compress the table of a cell; bytes of a row, and of a table besides its rows."""
    cell = plan.cells[0]
    group = plan.groups([cell])[0]
    evaluation = _evaluation(plan, cell)
    evaluation.answer(_batch(images, group, min(EACH, len(images.ids)), device), {})
    key = plan.key(cell, DataKey(images.name, images.fingerprint, min(EACH, len(images.ids))))
    start = time.perf_counter()
    small = len(encode(key, evaluation.finished().answers, {}, {}))
    seconds = time.perf_counter() - start
    many = _batch(images, group, len(images.ids), device)
    whole = _evaluation(plan, cell)
    whole.answer(many, {})
    large = len(encode(plan.key(cell, images.key), whole.finished().answers, {}, {}))
    rows = max(1, (len(many.ids) - key.data.n) * (cell.timesteps + 1))
    row = max(1.0, (large - small) / rows)
    return seconds, row, float(small)


def _worker(groups: list[Group], images: Images) -> tuple[float, int]:
    """Seconds until a worker process has perturbed its first image, and its resident bytes."""
    for group in groups:
        first = group.conditions[0]
        source, perturbed = images.source(first, group.geometry)
        kind = KINDS[first.kind]
        if perturbed or kind.on_uint8 is Perturbation.on_uint8:
            continue
        task = Task(source, (0,), (images.ids[0],), (kind(first),), 0, None)
        with Pipeline(1, images.folder) as pipeline:
            before = {child.pid for child in psutil.Process().children(recursive=True)}
            start = time.perf_counter()
            stream = pipeline.stream([task])
            next(stream)
            seconds = time.perf_counter() - start
            children = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
            resident = max((child.memory_info().rss for child in children), default=0)
        return seconds, resident
    return 0.0, 0
