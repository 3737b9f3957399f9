"""One batch through one model, and the records that it leaves; the same code under every engine."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcbench.errors import RunError
from pcbench.harness.examples import Examples
from pcbench.harness.memory import Growing
from pcbench.harness.plan import Cell, Subject
from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier
from pcbench.perturbations.base import KINDS, Context, Perturbation
from pcbench.results.cell import Answers

DISTANCE = "distance_"  # columns distance_1, ...: of each PCoder's representation from the clean one
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Images of a run, on their way to a model.

    Attributes:
        images: (B, 3, H, W) float32 in [0, 1], on the device.
        labels: (B,) int64, on the device.
        ids: B ids.
        columns: what a perturbation said of each image, (B,) each.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> "Batch":
        """Some of its images."""
        columns = {name: value[start:stop] for name, value in self.columns.items()}
        return Batch(self.images[start:stop], self.labels[start:stop], self.ids[start:stop], columns)


def to_batch(
    images: NDArray[np.uint8] | Tensor, labels: Sequence[int], ids: Sequence[str], device: torch.device
) -> Batch:
    """uint8 (B, H, W, 3) on its way to the device: moved as bytes, made float there."""
    tensor = torch.from_numpy(images) if isinstance(images, np.ndarray) else images
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    # (B, H, W, 3) seen as (B, 3, H, W) is channels_last already, which is how convolutions like it
    floats = tensor.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    return Batch(floats, torch.as_tensor(labels, dtype=torch.int64, device=device), tuple(ids))


@dataclass(frozen=True)
class Glance:
    """How a cell gets on: of `images` images so far, `correct` are right at (t = 0, t = T)."""

    label: str
    condition: Condition
    timesteps: int
    images: int
    correct: tuple[int, int]


@dataclass(frozen=True)
class Finished:
    """A finished cell, as an engine hands it over.

    Attributes:
        cell: of the plan.
        glance: its last.
        answers: what the model said.
        seconds: by stage.
        report: what the perturbation says about the cell.
    """

    cell: Cell
    glance: Glance
    answers: Answers
    seconds: Mapping[str, float]
    report: Mapping[str, object]


@dataclass
class Evaluation:
    """A cell while it is being evaluated.

    Args:
        cell, subject: what is evaluated.
        seed: of the run.
        dtype: torch.float32, or torch.bfloat16 for autocast.

    Attributes:
        seconds: by stage, so far.
        images: number of images so far; `correct` of them at (t = 0, t = T).
    """

    cell: Cell
    subject: Subject
    seed: int
    dtype: torch.dtype = torch.float32
    seconds: dict[str, float] = field(default_factory=lambda: {"data": 0.0, "perturbation": 0.0, "model": 0.0})
    images: int = 0
    correct: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.perturbation: Perturbation = KINDS[self.cell.condition.kind](self.cell.condition)
        self._columns: dict[str, Growing] = {}
        self._ids: list[str] = []
        self._examples = Examples()

    @property
    def model(self) -> TemporalClassifier:
        """The model under test."""
        return self.subject.model

    def perturb(self, batch: Batch) -> tuple[Batch, Mapping[str, Tensor]]:
        """The batch as the model will see it, and further columns of its records."""
        start = now_on(batch.images.device)
        context = Context(list(batch.ids), batch.labels, self.seed, self.model, self.cell.timesteps)
        perturbed = self.perturbation.on_float(batch.images, context)
        self.seconds["perturbation"] += now_on(batch.images.device) - start
        return Batch(perturbed.images, batch.labels, batch.ids), perturbed.columns

    def answer(self, batch: Batch, columns: Mapping[str, Tensor]) -> None:
        """Ask the model about a batch, at all timesteps of one pass, and keep its answers.

        Raises:
            RunError: logits that are not finite.
        """
        start = now_on(batch.images.device)
        with torch.inference_mode(), torch.autocast(batch.images.device.type, self.dtype, self._casts):
            logits = self.model(batch.images, timesteps=self.cell.timesteps)
        part = self.judged(batch, columns, logits)
        self.keep(part, now_on(batch.images.device) - start)

    def answer_perturbed(self, batch: Batch) -> None:
        """`answer`, of images that carry what the perturbation said of them."""
        self.answer(batch, batch.columns)

    @property
    def _casts(self) -> bool:
        return self.dtype != torch.float32

    def judged(self, batch: Batch, columns: Mapping[str, Tensor], logits: Tensor) -> "Judged":
        """What logits (T + 1, B, classes) of a batch say. Keeps nothing yet: memory may still run out.

        Raises:
            RunError: logits that are not finite.
        """
        with torch.inference_mode():
            arrays = self._answers(batch, logits.float())
        arrays |= {name: value.cpu().numpy() for name, value in columns.items()}
        return Judged(batch, arrays)

    def keep(self, part: "Judged", seconds: float) -> None:
        """Keep what was judged, all of it or, when memory runs out, nothing."""
        before = {name: len(column) for name, column in self._columns.items()}
        try:
            for name, value in part.arrays.items():
                self._columns.setdefault(name, Growing()).append(value)
        except BaseException:
            self._columns = {name: column for name, column in self._columns.items() if name in before}
            for name, length in before.items():
                self._columns[name].cut(length)
            raise
        batch = part.batch
        self.seconds["model"] += seconds
        self._ids += batch.ids
        self.images += len(batch.ids)
        labels = part.arrays["label"]
        self._examples.see(batch.images, labels.tolist(), batch.ids)
        right = part.arrays["prediction"] == labels
        self.correct = (self.correct[0] + int(right[0].sum()), self.correct[1] + int(right[-1].sum()))

    def forget(self, images: int) -> None:
        """Drop what was kept beyond so many images: cells that are evaluated side by side go on together."""
        for column in self._columns.values():
            column.cut(images)
        del self._ids[images:]
        self.images = images
        if images == 0:
            self._columns, self.correct = {}, (0, 0)
            return
        right = self._columns["prediction"].values() == self._columns["label"].values()
        self.correct = int(right[0].sum()), int(right[-1].sum())

    def _answers(self, batch: Batch, logits: Tensor) -> dict[str, NDArray[np.generic]]:
        finite = logits.isfinite().all(-1)
        if not bool(finite.all()):
            t, row = (int(index) for index in (~finite).nonzero()[0])
            raise RunError(
                f"{self.subject.label} gives logits that are not finite at t = {t} for image {batch.ids[row]} under "
                f"{self.cell.condition.label}; what was finished is kept"
            )
        log_probabilities = logits.log_softmax(-1)
        probabilities = log_probabilities.exp()
        confidence, prediction = probabilities.max(-1)
        labels = batch.labels.expand(len(logits), -1).unsqueeze(-1)
        return {
            "label": batch.labels.int().cpu().numpy(),
            "prediction": prediction.int().cpu().numpy(),
            "confidence": confidence.cpu().numpy(),
            "nll": -log_probabilities.gather(-1, labels).squeeze(-1).cpu().numpy(),
            "prediction_cumulative": probabilities.cumsum(0).argmax(-1).int().cpu().numpy(),
        }

    def compare(self, noisy: Sequence[Tensor], clean: Sequence[Tensor]) -> NDArray[np.float32]:
        """Correlation distance of each PCoder's representation from the clean one: (PCoders, B)."""
        distances = [1 - correlation(one, other) for one, other in zip(noisy, clean, strict=True)]
        return torch.stack(distances).float().cpu().numpy()

    def finished(self) -> Finished:
        """The cell, after its last batch."""
        joined = {name: column.values() for name, column in self._columns.items()}
        labels = joined.pop("label")
        answers = Answers(
            self._ids,
            labels,
            {name: value for name, value in joined.items() if value.ndim == 2},
            {name: value for name, value in joined.items() if value.ndim == 1},
            self._examples.thumbnails(self._ids),
        )
        return Finished(self.cell, self.glance(), answers, dict(self.seconds), self.perturbation.report())

    def glance(self) -> Glance:
        """How the cell gets on."""
        return Glance(self.subject.label, self.cell.condition, self.cell.timesteps, self.images, self.correct)


@dataclass(frozen=True)
class Judged:
    """The answers to a batch, before they are kept: name -> (T + 1, B) or (B,)."""

    batch: Batch
    arrays: dict[str, NDArray[np.generic]]


def now_on(device: torch.device) -> float:
    """Seconds, when all that a device was told to do is done: elsewhere than on the CPU it works on while we go on."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson correlation of two batches (B, ...) over all units of each image: (B,)."""
    x, y = (value.flatten(1).float() for value in (x, y))
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    return torch.nn.functional.cosine_similarity(x, y, dim=1)


class Chunks:
    """How many images a model takes at once; halves when memory runs out, and remembers.

    Args:
        size: to begin with.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def each(self, batch: Batch, work: Callable[[Batch], None]) -> None:
        """Do the work on the batch, in as few parts as memory allows. The work must keep nothing when it fails.

        Raises:
            RunError: not even one image fits.
        """
        start = 0
        while start < len(batch.ids):
            try:
                work(batch.part(start, start + self.size))
            except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError; the CPU's is plain
                if not out_of_memory(error):
                    raise
                if self.size == 1:
                    raise RunError("there is no memory for a single image; what was finished is kept") from None
                self.size //= 2
                _LOGGER.warning("memory ran out; going on with %d images at once", self.size)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            start += self.size


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on an accelerator or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def evaluate_together(evaluations: Sequence[Evaluation], batch: Batch) -> None:
    """Evaluate cells of one model side by side, against one pass over the clean images.

    The passes go through time in step, so that no representation is stored longer than a timestep. Each cell is
    charged with one pass; that over the clean images is shared by all, as "comparison". When memory runs out, none of
    the cells keeps anything of the batch.
    """
    model = evaluations[0].model
    timesteps = evaluations[0].cell.timesteps
    device = batch.images.device
    seen = []
    for evaluation in evaluations:
        images = evaluation.perturbation.on_uint8(
            (batch.images * 255).round().byte().permute(0, 2, 3, 1), list(batch.ids), evaluation.seed
        )
        moved = Batch(images.permute(0, 3, 1, 2).float() / 255, batch.labels, batch.ids)
        seen.append(evaluation.perturb(moved))
    start = now_on(device)
    logits: list[list[Tensor]] = [[] for _ in evaluations]
    distances: list[list[NDArray[np.float32]]] = [[] for _ in evaluations]
    casts = evaluations[0].dtype != torch.float32
    with torch.inference_mode(), torch.autocast(device.type, evaluations[0].dtype, casts):
        passes = [model.representations(perturbed.images, timesteps) for perturbed, _ in seen]
        for step in zip(model.representations(batch.images, timesteps), *passes, strict=True):
            clean = step[0][1]
            for index, (answer, representations) in enumerate(step[1:]):
                logits[index].append(answer)
                distances[index].append(evaluations[index].compare(representations, clean))
    parts = []
    for evaluation, (perturbed, columns), answers, found in zip(evaluations, seen, logits, distances, strict=True):
        part = evaluation.judged(perturbed, columns, torch.stack(answers))
        stacked = np.stack(found)  # (T + 1, PCoders, B)
        for pcoder in range(stacked.shape[1]):
            part.arrays[f"{DISTANCE}{pcoder + 1}"] = stacked[:, pcoder]
        parts.append(part)
    share = (now_on(device) - start) / (len(evaluations) + 1)
    before = evaluations[0].images
    try:
        for evaluation, part in zip(evaluations, parts, strict=True):
            evaluation.keep(part, share)
            evaluation.seconds["comparison"] = evaluation.seconds.get("comparison", 0.0) + share / len(evaluations)
    except BaseException:
        for evaluation in evaluations:
            evaluation.forget(before)
        raise
