"""Hyperparameters of the dynamics, tuned by gradient descent, as Alamia et al. 2021 (arXiv 2106.04225) tuned theirs.

The network's own parameters are what the optimiser moves. After each step, feedforward and feedback of a PCoder go to
the nearest values that leave memory: none below 0, their sum at most 1 (projected gradient descent). The error term's
weight is free. The last PCoder has no feedback; its feedforward lies between 0 and 1.

Loss: cross-entropy summed over timesteps t = 0..T, on images with Gaussian noise. Tuning images are a part of the data
of their own, fixed by a hash of the image ids; what is reported on the other part was not tuned on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pcbench.data.images import ImageSet
from pcbench.errors import RunError, UserError
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.pcoder import PCoder
from pcbench.randomness import normal_like
from pcbench.training.batches import Views, evaluation_batches, loader, training_batches
from pcbench.training.distributed import Processes
from pcbench.training.folder import Row, TrainingFolder
from pcbench.training.loop import Loop, Report
from pcbench.training.tuning_images import chosen_pcoders, tuning_images

Batch = tuple[Tensor, Tensor, list[str]]  # images, labels, ids


@dataclass(frozen=True)
class TuningRecipe:
    """How hyperparameters are tuned.

    Attributes:
        epochs: passes over the tuning images.
        batch_size: images at a time.
        timesteps: T.
        sigma: standard deviation of the noise, added to normalised images; one of these at random for each image.
        learning_rate: of Adam, for feedforward and feedback.
        pc_learning_rate: of Adam, for the weight of the error term.
        gradient: "exact", or "truncated": the error gradient is a constant, as in published code.
        pcoders: whose values are tuned, counted from 1; empty for all. The others keep theirs.
        held_out: share of the images that are never tuned on.
        limit: use this many of the tuning images, and as many of the others to report on; None for all.
        seed: of the noise and the order of images.
    """

    epochs: int = 5
    batch_size: int = 16
    timesteps: int = 4
    sigma: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 2.0)
    learning_rate: float = 0.01
    pc_learning_rate: float = 1e-4
    gradient: Literal["exact", "truncated"] = "exact"
    pcoders: tuple[int, ...] = ()
    held_out: float = 0.5
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UserError: a value makes no sense."""
        for name in ("epochs", "batch_size", "timesteps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; the smallest is 1")
        for name in ("learning_rate", "pc_learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not self.sigma or not all(0 <= value < float("inf") for value in self.sigma):
            raise UserError(f"sigma is {self.sigma}; it is one or more standard deviations, 0 or above")


class Tuning(Loop[Batch]):
    """A tuning of one network's hyperparameters. Arguments as those of FeedbackTraining; labels do play a part."""

    def __init__(
        self,
        model: PredictiveClassifier,
        images: ImageSet,
        recipe: TuningRecipe,
        processes: Processes,
        workers: int = 0,
    ) -> None:
        self.recipe, self.workers, self.images = recipe, workers, images
        self.tuned, self.reported = tuning_images(images, recipe.held_out, recipe.limit)
        chosen = chosen_pcoders(recipe.pcoders, len(model.network.pcoders))
        if len(self.tuned) < recipe.batch_size:
            raise UserError(f"{len(self.tuned)} tuning images do not fill a batch of {recipe.batch_size}")
        self.model = model.to(processes.device).eval().requires_grad_(False)
        pcoders = model.network.pcoders
        tuned = [pcoder for n, pcoder in enumerate(pcoders, start=1) if n in chosen and isinstance(pcoder, PCoder)]
        self._pairs = [(pcoder.feedforward, None if pcoder is pcoders[-1] else pcoder.feedback) for pcoder in tuned]
        shares = [share for pair in self._pairs for share in pair if share is not None]
        pcs = [pcoder.pc for pcoder in tuned]
        self.parameters = [parameter.requires_grad_() for parameter in (*shares, *pcs)]
        self.optimiser = torch.optim.Adam(
            [{"params": shares, "lr": recipe.learning_rate}, {"params": pcs, "lr": recipe.pc_learning_rate}]
        )
        self.views = Views(images, model.preprocessing, None, recipe.seed)
        per_epoch = len(self.tuned) // recipe.batch_size
        super().__init__(recipe.epochs, per_epoch, recipe.batch_size, processes, checkpoint_steps=1, sums=1)

    def run(self, folder: TrainingFolder | None = None, progress: Report = lambda _: None) -> list[Row]:
        """Tune to the end, from the folder's state where it has one; returns the log, one row an epoch.

        Row 0 is the network as it was. Raises RunError: the loss is not finite.
        """
        self.advance(folder, progress)
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        return self.rows

    def _begin(self, progress: Report) -> bool:
        self.rows.append(self._row(0.0, [float("nan")]))
        return True

    def _batches(self) -> Iterator[Batch]:
        places = training_batches(self.tuned, self.recipe.batch_size, range(self.step, self.steps), self.recipe.seed)
        for images, labels, positions in loader(self.views, places, self.workers, self.processes.device):
            yield images, labels, [self.images.ids[position] for position in positions.tolist()]

    def noisy(self, images: Tensor, ids: list[str], *purpose: str | int) -> Tensor:
        """Normalised images with noise: each image's own sigma and noise, from (seed, id, purpose)."""
        x = self.model.normalise(images.to(self.processes.device))
        sigmas = torch.tensor(self.recipe.sigma)
        draws = normal_like(torch.zeros(len(ids), 1), self.recipe.seed, ids, "sigma", *purpose)
        chosen = sigmas[(torch.special.ndtr(draws[:, 0]) * len(sigmas)).long().clamp_max(len(sigmas) - 1)]
        return x + chosen.to(x).view(-1, 1, 1, 1) * normal_like(x, self.recipe.seed, ids, "tuning", *purpose)

    def _loss(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy summed over timesteps, mean over images; and logits (T + 1, B, classes)."""
        logits = self.model.network(x, self.recipe.timesteps, gradient=self.recipe.gradient)
        labels = labels.to(logits.device)
        flat = functional.cross_entropy(logits.float().flatten(0, 1), labels.repeat(len(logits)))
        return flat * len(logits), logits

    def _train_step(self, batch: Batch) -> Tensor:
        images, labels, ids = batch
        loss, _ = self._loss(self.noisy(images, ids, "epoch", self.epoch), labels)
        if not bool(loss.isfinite()):
            raise RunError(f"the loss is not finite at step {self.step}; try a lower learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimiser.step()
        for feedforward, feedback in self._pairs:
            project(feedforward, feedback)
        return loss.detach().double().cpu().view(1)

    def evaluate(self) -> tuple[float, list[float]]:
        """Loss and accuracies at t = 0..T on held-out images with noise; NaN and none where nothing is held out."""
        if not self.reported:
            return float("nan"), []
        total, correct = 0.0, torch.zeros(self.recipe.timesteps + 1)
        batches = evaluation_batches(self.reported, self.recipe.batch_size)
        for images, labels, positions in loader(self.views, batches, self.workers, self.processes.device):
            ids = [self.images.ids[position] for position in positions.tolist()]
            with torch.no_grad():
                loss, logits = self._loss(self.noisy(images, ids, "held out"), labels)
            total += float(loss) * len(images)
            correct += (logits.argmax(2).cpu() == labels).sum(1)
        return total / len(self.reported), (correct / len(self.reported)).tolist()

    def _row(self, speed: float, means: list[float]) -> Row:
        held_out, accuracies = self.evaluate()
        row: Row = {"epoch": self.epoch, "tuning_loss": means[0], "held_out_loss": held_out}
        row |= {f"held_out_accuracy_{t}": accuracy for t, accuracy in enumerate(accuracies)}
        for n, values in enumerate(self.model.network.hyperparameters, start=1):
            row |= {f"{name}_{n}": value for name, value in values.values().items()}
        return row

    @torch.no_grad()
    def _restore(self, state: dict[str, Any]) -> None:
        for parameter, value in zip(self.parameters, state["hyperparameters"], strict=True):
            parameter.copy_(value)
        self.optimiser.load_state_dict(state["optimiser"])

    def _state(self) -> dict[str, object]:
        values = [parameter.detach().cpu() for parameter in self.parameters]
        return {"hyperparameters": values, "optimiser": self.optimiser.state_dict()}


@torch.no_grad()
def project(feedforward: Tensor, feedback: Tensor | None) -> None:
    """Move two weights, in place, to the nearest that leave memory: none below 0, their sum at most 1.

    Args:
        feedforward: 0-dimensional.
        feedback: likewise; None for a PCoder without.
    """
    if feedback is not None:
        excess = ((feedforward + feedback - 1) / 2).clamp_min(0)
        feedforward.sub_(excess)
        feedback.sub_(excess).clamp_(0, 1)
    feedforward.clamp_(0, 1)


def options_of(values: list[dict[str, float]]) -> Iterator[tuple[str, str]]:
    """The values as `load_model` and "MODEL?feedforward=...&..." take them: comma-separated, one per PCoder."""
    for name in ("feedforward", "feedback", "pc"):
        yield name, ",".join(f"{value[name]:.6g}" for value in values)
