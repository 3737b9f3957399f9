"""One batch through one model, and the records that it leaves; the same code under every engine."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcbench.errors import RunError
from pcbench.harness.examples import EXAMPLES, Examples
from pcbench.harness.memory import Growing
from pcbench.harness.plan import Cell, Subject
from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier
from pcbench.perturbations.base import KINDS, Context, Perturbation
from pcbench.results.schema import CELL_COLUMNS

REPRESENTATIONS = "representations"
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Images of a run, on their way to a model.

    Attributes:
        images: (B, 3, H, W) float32 in [0, 1], on the device.
        labels: (B,) int64, on the device.
        ids: B ids.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]

    def part(self, start: int, stop: int) -> "Batch":
        """Some of its images."""
        return Batch(self.images[start:stop], self.labels[start:stop], self.ids[start:stop])


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
        key: of the cell.
        glance: its last.
        records: see `Evaluation.records`; `extra`: further tables by folder.
        seconds: by stage.
        report: what the perturbation says about the cell.
    """

    key: str
    glance: Glance
    records: pd.DataFrame
    extra: Mapping[str, pd.DataFrame]
    seconds: Mapping[str, float]
    report: Mapping[str, object]


@dataclass
class Evaluation:
    """A cell while it is being evaluated.

    Args:
        cell, subject: what is evaluated.
        data: name of the data set, for the records.
        seed: of the run.
        dtype: torch.float32, or torch.bfloat16 for autocast.

    Attributes:
        seconds: by stage, so far.
        images: number of images so far; `correct` of them at (t = 0, t = T).
    """

    cell: Cell
    subject: Subject
    data: str
    seed: int
    dtype: torch.dtype = torch.float32
    seconds: dict[str, float] = field(default_factory=lambda: {"data": 0.0, "perturbation": 0.0, "model": 0.0})
    images: int = 0
    correct: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.perturbation: Perturbation = KINDS[self.cell.condition.kind](self.cell.condition)
        self._columns: dict[str, Growing] = {}
        self._ids: list[str] = []
        self._distances = Growing()
        self._examples = Examples()

    @property
    def model(self) -> TemporalClassifier:
        """The model under test."""
        return self.subject.model

    def perturb(self, batch: Batch) -> tuple[Batch, Mapping[str, Tensor]]:
        """The batch as the model will see it, and further columns of its records."""
        start = time.perf_counter()
        context = Context(list(batch.ids), batch.labels, self.seed, self.model, self.cell.timesteps)
        perturbed = self.perturbation.on_float(batch.images, context)
        self.seconds["perturbation"] += time.perf_counter() - start
        return Batch(perturbed.images, batch.labels, batch.ids), perturbed.columns

    def answer(self, batch: Batch, columns: Mapping[str, Tensor]) -> None:
        """Ask the model about a batch, at all timesteps of one pass, and keep its answers.

        Raises:
            RunError: logits that are not finite.
        """
        start = time.perf_counter()
        with torch.inference_mode(), torch.autocast(batch.images.device.type, self.dtype, self._casts):
            logits = self.model(batch.images, timesteps=self.cell.timesteps)
        self.keep(batch, columns, logits, start)

    @property
    def _casts(self) -> bool:
        return self.dtype != torch.float32

    def keep(self, batch: Batch, columns: Mapping[str, Tensor], logits: Tensor, start: float) -> None:
        """Keep the answers to a batch: logits (T + 1, B, classes); `start` is when the model began."""
        with torch.inference_mode():
            answers = self._answers(batch, logits.float())
        self.seconds["model"] += time.perf_counter() - start
        for name, value in {**answers, **{name: value.cpu().numpy() for name, value in columns.items()}}.items():
            self._columns.setdefault(name, Growing()).append(value)
        self._ids += batch.ids
        self.images += len(batch.ids)
        labels = batch.labels.cpu().numpy()
        self._examples.see(batch.images, labels.tolist(), batch.ids)
        right = answers["prediction"] == labels
        self.correct = (self.correct[0] + int(right[0].sum()), self.correct[1] + int(right[-1].sum()))

    def _answers(self, batch: Batch, logits: Tensor) -> dict[str, NDArray[np.generic]]:
        finite = logits.isfinite().all(-1)
        if not bool(finite.all()):
            t, row = (int(index) for index in (~finite).nonzero()[0])
            condition = self.cell.condition
            raise RunError(
                f"{self.subject.label} gives logits that are not finite at t = {t} for image {batch.ids[row]} under "
                f"{condition.perturbation} {condition.severity:g} (suite {condition.suite}); what was finished is kept"
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

    def keep_distances(self, distances: Sequence[NDArray[np.float32]]) -> None:
        """Keep (PCoders, B) for each timestep of a batch."""
        self._distances.append(np.stack(distances))

    def records(self) -> pd.DataFrame:
        """The records: images in order, and for each the timesteps in order."""
        steps = self.cell.timesteps + 1
        count = len(self._ids)
        columns: dict[str, object] = dict(self._cell_values())
        columns["image"] = np.repeat(np.array(self._ids, dtype=object), steps)
        joined = {name: column.values() for name, column in self._columns.items()}
        columns["label"] = np.repeat(joined.pop("label"), steps)
        columns["timestep"] = np.tile(np.arange(steps, dtype=np.int16), count)
        per_step = {name: value for name, value in joined.items() if value.ndim == 2}
        columns["prediction"] = per_step["prediction"].T.reshape(-1)
        columns["confidence"] = per_step["confidence"].T.reshape(-1)
        columns["correct"] = columns["prediction"] == columns["label"]
        columns["nll"] = per_step["nll"].T.reshape(-1)
        columns["prediction_cumulative"] = per_step["prediction_cumulative"].T.reshape(-1)
        for name, value in joined.items():
            if value.ndim == 1:
                columns[name] = np.repeat(value, steps)
        return pd.DataFrame(columns, index=range(count * steps))

    def extra(self) -> dict[str, pd.DataFrame]:
        """Further tables by folder.

        "examples" (image, label, thumbnail): a few images as the model saw them; "representations" (image, pcoder 1..N,
        timestep, distance) where measured.
        """
        tables = {EXAMPLES: self._examples.table(self._cell_values())}
        if not len(self._distances):
            return tables
        distances = self._distances.values()  # (T + 1, PCoders, images)
        steps, pcoders, count = distances.shape
        values: dict[str, object] = dict(self._cell_values())
        values["image"] = np.tile(np.array(self._ids, dtype=object), steps * pcoders)
        values["pcoder"] = np.tile(np.repeat(np.arange(1, pcoders + 1, dtype=np.int16), count), steps)
        values["timestep"] = np.repeat(np.arange(steps, dtype=np.int16), pcoders * count)
        values["distance"] = distances.reshape(-1)
        return {**tables, REPRESENTATIONS: pd.DataFrame(values, index=range(distances.size))}

    def glance(self) -> Glance:
        """How the cell gets on."""
        return Glance(self.subject.label, self.cell.condition, self.cell.timesteps, self.images, self.correct)

    def finished(self) -> Finished:
        """The cell, after its last batch."""
        return Finished(
            self.cell.key,
            self.glance(),
            self.records(),
            self.extra(),
            dict(self.seconds),
            self.perturbation.report(),
        )

    def _cell_values(self) -> dict[str, object]:
        condition = self.cell.condition
        values = (
            self.subject.label,
            self.model.weights,
            self.data,
            condition.suite,
            condition.perturbation,
            condition.group,
            float(condition.severity),
        )
        return dict(zip(CELL_COLUMNS, values, strict=True))


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

    The passes go through time in step, so that no representation is stored longer than a timestep.
    """
    model = evaluations[0].model
    timesteps = evaluations[0].cell.timesteps
    seen = []
    for evaluation in evaluations:
        images = evaluation.perturbation.on_uint8(
            (batch.images * 255).round().byte().permute(0, 2, 3, 1), list(batch.ids), evaluation.seed
        )
        moved = Batch(images.permute(0, 3, 1, 2).float() / 255, batch.labels, batch.ids)
        seen.append(evaluation.perturb(moved))
    start = time.perf_counter()
    logits: list[list[Tensor]] = [[] for _ in evaluations]
    distances: list[list[NDArray[np.float32]]] = [[] for _ in evaluations]
    casts = evaluations[0].dtype != torch.float32
    with torch.inference_mode(), torch.autocast(batch.images.device.type, evaluations[0].dtype, casts):
        passes = [model.representations(perturbed.images, timesteps) for perturbed, _ in seen]
        for step in zip(model.representations(batch.images, timesteps), *passes, strict=True):
            clean = step[0][1]
            for index, (answer, representations) in enumerate(step[1:]):
                logits[index].append(answer)
                distances[index].append(evaluations[index].compare(representations, clean))
    for evaluation, (perturbed, columns), answers, found in zip(evaluations, seen, logits, distances, strict=True):
        evaluation.keep(perturbed, columns, torch.stack(answers), start)
        evaluation.keep_distances(found)
