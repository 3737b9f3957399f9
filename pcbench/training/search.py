"""Hyperparameters of the dynamics, tuned by search: for what has no gradient, such as accuracy and a stopping time.

Each trial draws one PCoder's values anew and keeps them when the network then does better on the tuning images: a
coordinate search by chance. All trials see the same images with the same noise, so they are compared in pairs. What is
judged is the mean over noise levels (0 is among them, so clean images count too) at the best timestep, which becomes
the default T that goes with the values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pcbench.data.images import ImageSet
from pcbench.errors import UserError
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.config import Hyperparameters
from pcbench.randomness import normal_like, numpy_generator
from pcbench.training.batches import Views, evaluation_batches, loader
from pcbench.training.distributed import Processes
from pcbench.training.folder import Row, TrainingFolder
from pcbench.training.loop import Loop, Progress, Report
from pcbench.training.tuning_images import chosen_pcoders, tuning_images

Values = list[dict[str, float]]


@dataclass(frozen=True)
class SearchRecipe:
    """How hyperparameters are searched.

    Attributes:
        trials: values to try.
        batch_size: images at a time; the result does not depend on it.
        timesteps: the largest T.
        sigma: standard deviations of the noise, added to normalised images; every image is seen with each.
        objective: "accuracy" (ties by cross-entropy), or "cross-entropy", which is finer on few images.
        pcoders: whose values are drawn, counted from 1; empty for all. The others keep theirs.
        held_out: share of the images that are never tuned on.
        limit: use this many of the tuning images, and as many of the others to report on; None for all.
        dtype: "bfloat16" runs the network in mixed precision.
        seed: of the trials and the noise.
    """

    trials: int = 30
    batch_size: int = 50
    timesteps: int = 4
    sigma: tuple[float, ...] = (0.0, 0.25, 0.5)
    objective: Literal["accuracy", "cross-entropy"] = "accuracy"
    pcoders: tuple[int, ...] = ()
    held_out: float = 0.5
    limit: int | None = 200
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UserError: a value makes no sense."""
        for name in ("trials", "batch_size", "timesteps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; the smallest is 1")
        if not self.sigma or not all(0 <= value < float("inf") for value in self.sigma):
            raise UserError(f"sigma is {self.sigma}; it is one or more standard deviations, 0 or above")


@dataclass(frozen=True)
class Judgement:
    """How a network did.

    Attributes:
        accuracy: (sigmas, T + 1), in [0, 1].
        loss: (sigmas, T + 1), cross-entropy in nats.
    """

    accuracy: Tensor
    loss: Tensor

    def best(self, objective: str) -> tuple[tuple[float, float], int]:
        """The score, larger is better, and the timestep 1..T that has it; the earliest of equals."""
        accuracy, loss = self.accuracy.mean(0).tolist(), self.loss.mean(0).tolist()
        orders = {"accuracy": (accuracy, [-value for value in loss]), "cross-entropy": ([-v for v in loss], accuracy)}
        first, second = orders[objective]
        scores = list(zip(first, second, strict=True))
        t = max(range(1, len(scores)), key=lambda t: scores[t])
        return scores[t], t


class Search(Loop[int]):
    """A search for one network's hyperparameters; one trial a step, one step a row of the log.

    Args:
        model: its hyperparameters are changed; they end as the best that were found.
        images: labelled; split into those that are tuned on and those that are reported on.
        recipe: how.
        processes: where; one process.
        workers: processes that read images.

    Attributes:
        best: the best values so far.
        timesteps: the T that goes with them.
    """

    def __init__(
        self,
        model: PredictiveClassifier,
        images: ImageSet,
        recipe: SearchRecipe,
        processes: Processes,
        workers: int = 0,
    ) -> None:
        self.recipe, self.images, self.workers = recipe, images, workers
        self.model = model.to(processes.device).eval().requires_grad_(False)
        self.tuned, self.reported = tuning_images(images, recipe.held_out, recipe.limit)
        self.pcoders = chosen_pcoders(recipe.pcoders, len(model.network.pcoders))
        self.views = Views(images, model.preprocessing, None, recipe.seed)
        self.start: Values = [values.values() for values in model.network.hyperparameters]
        self.best, self.timesteps = self.start, recipe.timesteps
        self._score: tuple[float, float] = (float("-inf"), float("-inf"))
        self._latest: Row = {}
        images_per_trial = len(self.tuned) * len(recipe.sigma)
        super().__init__(recipe.trials, 1, images_per_trial, processes, checkpoint_steps=1, sums=1)

    def run(self, folder: TrainingFolder | None = None, progress: Report = lambda _: None) -> list[Row]:
        """Search to the end, from the folder's state where it has one; returns the log. Row 0 is the network as it was.

        Raises:
            UserError: the folder's state is damaged.
        """
        self.advance(folder, progress)
        self.use(self.best)
        return self.rows

    def use(self, values: Values) -> None:
        """Give the network these values."""
        self.model.network.hyperparameters = [Hyperparameters(**row) for row in values]

    @torch.no_grad()
    def judge(self, positions: list[int]) -> Judgement:
        """The network as it is, on images with noise: each image's noise depends on (seed, id, sigma) alone."""
        recipe, device = self.recipe, self.processes.device
        sums = torch.zeros(2, len(recipe.sigma), recipe.timesteps + 1, dtype=torch.float64)
        batches = evaluation_batches(positions, recipe.batch_size)
        for images, labels, places in loader(self.views, batches, self.workers, device):
            clean, wanted = self.model.normalise(images.to(device)), labels.to(device)
            ids = [self.images.ids[place] for place in places.tolist()]
            for index, sigma in enumerate(recipe.sigma):
                x = clean + sigma * normal_like(clean, recipe.seed, ids, "search", sigma) if sigma else clean
                with torch.autocast(device.type, torch.bfloat16, enabled=recipe.dtype == "bfloat16"):
                    logits = self.model.network(x, recipe.timesteps)
                losses = functional.cross_entropy(
                    logits.float().flatten(0, 1), wanted.repeat(len(logits)), reduction="none"
                )
                sums[0, index] += (logits.argmax(2) == wanted).double().sum(1).cpu()
                sums[1, index] += losses.view(len(logits), -1).double().sum(1).cpu()
        accuracy, loss = sums / len(positions)
        return Judgement(accuracy, loss)

    def propose(self, trial: int) -> tuple[int, Values]:
        """The PCoder whose values trial 1, 2, ... draws anew, and the values of all, best otherwise.

        Feedback is in [0, 0.5], feedforward at least a fifth of what feedback leaves, memory is the rest; the error
        term is off in every second draw, else between 0.001 and 1.
        """
        draw = numpy_generator(self.recipe.seed, "hyperparameters", trial)
        n = int(draw.choice(self.pcoders))
        back = float(draw.uniform(0, 0.5)) if n < len(self.best) else 0.0
        forward = float(draw.uniform(0.2, 1)) * (1 - back)
        pc = float(10 ** draw.uniform(-3, 0)) if draw.random() < 0.5 else 0.0
        values = [dict(row) for row in self.best]
        values[n - 1] = {"feedforward": forward, "feedback": back, "pc": pc}
        return n, values

    def _begin(self, progress: Report) -> bool:
        self._try(0, self.start)
        self.rows.append(self._row(0.0, []))
        progress(Progress(0, self.epochs, 0, self.steps, self.rows[-1]))
        return True

    def _batches(self) -> Iterator[int]:
        yield from range(self.step + 1, self.steps + 1)

    def _train_step(self, batch: int) -> Tensor:
        self._try(*self.propose(batch))
        return torch.zeros(1, dtype=torch.float64)

    def _try(self, pcoder: int, values: Values) -> None:
        self.use(values)
        judgement = self.judge(self.tuned)
        score, t = judgement.best(self.recipe.objective)
        better = score > self._score
        if better:
            self.best, self.timesteps, self._score = values, t, score
        drawn = values[pcoder - 1] if pcoder else dict.fromkeys(("feedforward", "feedback", "pc"), float("nan"))
        self._latest = {"pcoder": pcoder, **drawn, "better": int(better), "best_timestep": t}
        self._latest |= {f"accuracy_{t}": value for t, value in enumerate(judgement.accuracy.mean(0).tolist())}
        self._latest |= {f"loss_{t}": value for t, value in enumerate(judgement.loss.mean(0).tolist())}

    def _row(self, speed: float, means: list[float]) -> Row:
        return {"trial": self.step, "images_per_second": speed, **self._latest}

    def _state(self) -> dict[str, object]:
        return {"best": self.best, "timesteps": self.timesteps, "score": list(self._score)}

    def _restore(self, state: dict[str, Any]) -> None:
        self.best, self.timesteps = state["best"], state["timesteps"]
        self._score = (state["score"][0], state["score"][1])
