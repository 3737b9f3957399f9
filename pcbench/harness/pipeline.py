"""Perturbed images, batch by batch, made ahead of the model by worker processes."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcbench.errors import RunError
from pcbench.harness.images import OnDisk, Source
from pcbench.perturbations.base import Perturbation

_RETRIES = 3
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """Images to prepare: a batch, or a part of it.

    Attributes:
        source: where the images are.
        positions: theirs in the source.
        ids: their ids.
        perturbations: of one family, each applied to them; none for the images as they are.
        seed: of the run.
        tag: whatever the caller wants back with the result.
    """

    source: Source
    positions: tuple[int, ...]
    ids: tuple[str, ...]
    perturbations: tuple[Perturbation, ...]
    seed: int
    tag: Any


def prepare(task: Task) -> tuple[list[NDArray[np.uint8]], float]:
    """For each perturbation of a task the images, (B, H, W, 3), or once as they are; and the seconds that it took."""
    start = time.perf_counter()
    images = task.source.read(task.positions)
    made = [images]
    if task.perturbations:
        kind = type(task.perturbations[0])
        tensors = kind.all_on_uint8(task.perturbations, torch.from_numpy(images), list(task.ids), task.seed)
        made = [tensor.numpy() for tensor in tensors]
    return made, time.perf_counter() - start


def _prepare_to(path: Path, task: Task) -> tuple[tuple[int, ...], float]:
    """In a worker: the images of a task, written to a file one after another; the shape of all, and the seconds.

    What comes back through the pool's pipe is so small that it is written in one piece. A worker that is killed while
    it sends a large result would leave half a message there, for whose end the main process would wait for ever.
    """
    made, seconds = prepare(task)
    try:
        with path.open("wb") as file:
            for images in made:
                file.write(np.ascontiguousarray(images).data)
    except OSError as error:
        raise RunError(
            f"cannot write temporary images: {error.strerror}; set TMPDIR to a larger disk; what was finished is kept"
        ) from None
    return (len(made), *made[0].shape), seconds


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A worker whose main process was killed would wait for tasks for ever: both hold the queue's other end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Processes that start within do not import the user's script again, which may lack a __main__ guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Pipeline:
    """Prepares tasks in worker processes, a bounded number ahead, and hands them over in order.

    A worker that dies is replaced, and its tasks are done again, up to three times in a row.

    Args:
        workers: number of processes; 0 prepares in this process.
        folder: temporary, for images on their way.
    """

    def __init__(self, workers: int, folder: Path) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._slots = [folder / f"batch-{index}.u8" for index in range(2 * workers + 1)]

    def stream(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, list[NDArray[np.uint8]], float]]:
        """Each task with what `prepare` makes of it, in the order of the tasks.

        Raises:
            RunError: the workers keep dying.
        """
        if self.workers == 0:
            for task in tasks:
                yield (task, *prepare(task))
            return
        waiting: deque[tuple[Task, Path, Future[tuple[tuple[int, ...], float]] | None]] = deque()
        free = list(self._slots)
        source = iter(tasks)
        failures = 0
        while True:
            try:
                while free and (following := next(source, None)) is not None:
                    slot = free.pop()
                    waiting.append((following, slot, self._submit(slot, following)))
                if not waiting:
                    return
                task, slot, future = waiting[0]
                if future is None:
                    made, seconds = prepare(task)
                else:
                    shape, seconds = future.result()
                    made = list(np.fromfile(slot, dtype=np.uint8).reshape(shape))
            except BrokenProcessPool:
                failures += 1
                if failures > _RETRIES:
                    raise RunError(
                        "worker processes keep dying (out of memory?); what was finished is kept; try fewer --workers"
                    ) from None
                _LOGGER.warning("a worker process died; it is replaced, and its images are done again")
                self.close()
                # in other files: a worker of the broken pool may still be writing to the old ones
                self._slots = [slot.with_name(f"again-{failures}-{slot.name}") for slot in self._slots]
                free = list(self._slots)
                tasks_left = [task for task, _, _ in waiting]
                waiting = deque()
                for task in tasks_left:
                    slot = free.pop()
                    waiting.append((task, slot, self._submit(slot, task)))
                continue
            failures = 0
            waiting.popleft()
            free.append(slot)
            yield task, made, seconds

    def _submit(self, slot: Path, task: Task) -> Future[tuple[tuple[int, ...], float]] | None:
        if not task.perturbations and not isinstance(task.source, OnDisk):
            return None  # nothing but copying memory: a process is not worth its start
        if self._pool is None:
            # Spawned, not forked: a fork of a process with threads (torch's, CUDA's) can hang.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, _start_worker)
        try:
            with _no_main_module():
                return self._pool.submit(_prepare_to, slot, task)
        except BrokenProcessPool as error:
            failed: Future[tuple[tuple[int, ...], float]] = Future()
            failed.set_exception(error)
            return failed

    def close(self) -> None:
        """Stop the workers."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
