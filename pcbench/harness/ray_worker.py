"""A Ray worker: a process, here or on another machine, that keeps the models loaded and evaluates groups of cells."""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from pcbench.config import RunConfig
from pcbench.errors import RunError
from pcbench.harness.compute import compile_models, tf32_allowed, use_predictors
from pcbench.harness.evaluate import Chunks, Finished
from pcbench.harness.images import Held, Prepared, Store, View
from pcbench.harness.local import Beat, Settings, events
from pcbench.harness.memory import keep_freed_memory
from pcbench.harness.pipeline import Pipeline
from pcbench.harness.plan import Group, Plan, make_plan
from pcbench.keys import DataKey

_PIECE = 1 << 25  # bytes of images in one object
_BEAT_EVERY = 0.2  # seconds; each message costs the driver about a millisecond


@dataclass(frozen=True)
class Pieces:
    """Decoded images in Ray's object store, for other machines: each fetches a piece when it first needs it.

    Attributes:
        refs: of arrays (rows, H, W, 3), uint8; the last one may be shorter.
        rows: of images in each.
    """

    refs: tuple[Any, ...]
    rows: int

    @classmethod
    def of(cls, prepared: Prepared) -> "Pieces":
        """Put images into the object store, which spills to disk what memory does not hold."""
        count, height, width, channels = prepared.shape
        rows = max(1, _PIECE // (height * width * channels))
        starts = range(0, count, rows)
        return cls(tuple(ray.put(prepared.read(range(at, min(at + rows, count)))) for at in starts), rows)

    def read(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """(len(rows), H, W, 3)."""
        pieces = {index: ray.get(self.refs[index]) for index in sorted({row // self.rows for row in rows})}
        return np.stack([pieces[row // self.rows][row % self.rows] for row in rows])

    def part(self, rows: tuple[int, ...]) -> tuple[Held, tuple[int, ...]]:
        """These images, and their positions among them."""
        return Held(self.read(rows)), tuple(range(len(rows)))


@dataclass(frozen=True)
class Job:
    """What a worker is told once.

    Attributes:
        config: of the run; the worker makes the plan, and so the models, as the driver did.
        identity: that the plan must have.
        data: the images.
        settings: of the worker.
        threads: of torch. Kernels sum in another order with another number, so it is the driver's everywhere.
        node: of the driver.
        near: the images for workers on the driver's node, which share its files.
        far: the images for workers on other nodes; None when there are none.
        folder: the driver's working directory, to which paths in the config are relative.
        paths: where the driver finds modules.
    """

    config: RunConfig
    identity: str
    data: DataKey
    settings: Settings
    threads: int
    node: str
    near: View[Prepared]
    far: View[Pieces] | None
    folder: str
    paths: tuple[str, ...]


class Worker:
    """Runs as a Ray actor; its methods are streams of events.

    Args:
        job: what it is told once.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._held = ExitStack()  # until the process ends

    def load(self) -> Iterator[str]:
        """Load the models; yields notices.

        Raises:
            RunError: this machine would compute something else than the driver's, or lacks something.
        """
        job, settings = self._job, self._job.settings
        sys.path += [path for path in job.paths if path not in sys.path]
        if Path(job.folder).is_dir():
            os.chdir(job.folder)
        torch.set_num_threads(job.threads)
        keep_freed_memory()
        name = platform.node()
        if settings.device.type == "cuda" and not torch.cuda.is_available():
            raise RunError(f"the Ray worker on {name} has no CUDA device")
        self._held.enter_context(tf32_allowed(job.config.tf32, settings.device))
        self._plan: Plan = make_plan(job.config, settings.device)
        if self._plan.identity(job.data) != job.identity:
            raise RunError(
                f"the Ray worker on {name} has other models, weights, suites or another pcbench than the machine that "
                "asks it; give all machines the same"
            )
        use_predictors(self._plan, settings.routes)
        self._images = self._view()
        self._pipeline = self._held.enter_context(Pipeline(settings.workers, self._images.folder))
        self._chunks = Chunks(settings.batch_size)
        if settings.compile:
            batch = min(settings.batch_size, len(self._images.ids))
            yield from compile_models(self._plan, range(len(self._plan.subjects)), batch, settings.device)

    def evaluate(self, group: Group) -> Iterator[Beat | Finished]:
        """The cells of a group, and now and then how they get on."""
        images, said = 0, time.monotonic()
        for event in events(self._plan, [group], self._images, self._job.settings, self._pipeline, self._chunks):
            if isinstance(event, Beat):
                images += event.images
                if time.monotonic() - said < _BEAT_EVERY:
                    continue
                yield Beat(event.glance, images)
                images, said = 0, time.monotonic()
            else:
                yield Beat(event.glance, images)
                images = 0
                yield event

    def _view(self) -> View[Store]:
        job = self._job
        prefix = "pcbench-worker-"  # a folder of its own: workers prepare images at the same time
        if ray.get_runtime_context().get_node_id() == job.node:
            return replace(job.near, folder=Path(tempfile.mkdtemp(prefix=prefix, dir=job.near.folder)))
        if job.far is None:
            raise RunError("a Ray worker started on a machine that joined after the run; the same command goes on")
        return replace(job.far, folder=Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix=prefix))))
