"""What every training here does: step by step to the end, with a log, progress, and a state to go on from."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from pcbench.training.distributed import Processes
from pcbench.training.folder import Row, TrainingFolder

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Progress:
    """Where a training is: what a display shows."""

    epoch: int
    epochs: int
    step: int
    steps: int
    row: Row | None


Report = Callable[[Progress], None]


class Loop(ABC, Generic[Batch]):
    """A training of `epochs` times `per_epoch` steps. A subclass says what a step is and what a row of the log holds.

    Args:
        epochs: rows of the log, apart from what `_begin` adds.
        per_epoch: steps in each.
        batch_size: images in a step, over all processes; for the speed in the log.
        processes: where, and on how many.
        checkpoint_steps: after how many steps the state is kept; it always is at the end of an epoch.
        sums: how many values `_train_step` returns; the loop adds them up over an epoch.

    Attributes:
        step: number of finished steps.
        rows: the log so far.
    """

    def __init__(
        self, epochs: int, per_epoch: int, batch_size: int, processes: Processes, checkpoint_steps: int, sums: int
    ) -> None:
        self.epochs, self.per_epoch, self.batch_size = epochs, per_epoch, batch_size
        self.processes, self.checkpoint_steps = processes, checkpoint_steps
        self.steps = epochs * per_epoch
        self.step = 0
        self.rows: list[Row] = []
        self._sums = torch.zeros(sums, dtype=torch.float64)

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return self.step // self.per_epoch

    def advance(self, folder: TrainingFolder | None, progress: Report) -> None:
        """Train to the end, from the folder's state where it has one; keep state and log in the folder.

        Raises:
            RunError: a loss is not finite.
            UserError: the folder's state is damaged.
        """
        state = self.processes.agree(folder.load_state() if folder is not None else None)
        if isinstance(state, dict):
            self.step, self.rows, self._sums = state["step"], state["rows"], state["sums"]
            self._restore(state)
        elif self._begin(progress):
            self._write(folder)
        if self.step == self.steps or self._enough():
            return
        begun, first_step = time.monotonic(), self.step
        for batch in self._batches():
            self._sums += self._train_step(batch)
            self.step += 1
            row = None
            if self.step % self.per_epoch == 0:
                seen = (self.step - first_step) * self.batch_size
                row = self._finish_epoch(seen / (time.monotonic() - begun))
                begun, first_step = time.monotonic(), self.step
            if row is not None or self.step % self.checkpoint_steps == 0:
                self._write(folder)
            progress(Progress(self.epoch, self.epochs, self.step, self.steps, row))
            if row is not None and self._enough():
                break

    def _finish_epoch(self, speed: float) -> Row:
        means = (self.processes.total(self._sums) / self.processes.world / self.per_epoch).tolist()
        self._sums.zero_()
        row = self._row(speed, means)
        self.rows.append(row)
        return row

    def _write(self, folder: TrainingFolder | None) -> None:
        """Keep the state. Every process's own sums are gathered, so that a resumed log is the same."""
        sums = self.processes.total(self._sums) / self.processes.world
        state = self._state()
        if folder is None or not self.processes.first:
            return
        folder.save_state({"step": self.step, "rows": self.rows, "sums": sums, **state})
        folder.write_log(self.rows)

    def _begin(self, progress: Report) -> bool:
        """What comes before the first step; returns whether there is a state to keep."""
        return False

    def _enough(self) -> bool:
        """Whether to stop before the last epoch; asked at the end of each."""
        return False

    @abstractmethod
    def _batches(self) -> Iterator[Batch]:
        """The batches of all remaining steps."""

    @abstractmethod
    def _train_step(self, batch: Batch) -> Tensor:
        """Learn from a batch; returns the values to be averaged over the epoch, float64 on the CPU."""

    @abstractmethod
    def _row(self, speed: float, means: list[float]) -> Row:
        """The epoch's row, from images per second and the means of what its steps returned."""

    @abstractmethod
    def _state(self) -> dict[str, object]:
        """What `_restore` needs: tensors and plain values. Called in every process."""

    @abstractmethod
    def _restore(self, state: dict[str, Any]) -> None:
        """Go back to a state; step, log and sums are the loop's."""
