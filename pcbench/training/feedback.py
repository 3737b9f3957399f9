"""Feedback weights by gradient descent: predictors learn to predict the layer below, from representations at t = 0.

Loss: the sum over PCoders n of the mean of (predictor_n(e_n) - e_{n-1})^2, on clean images, with e_0 the normalised
image; the backbone is frozen and in eval mode, and targets carry no gradient (Choksi, Mozafari et al. 2021). The
predictors share no parameter, so the sum is N independent regressions. Layers differ in scale by orders of magnitude;
Adam and RMSprop are indifferent to the scale of a loss, so the sum needs no weights, and progress is judged by the
share of the target's variance that is explained, which is free of scale.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pcbench.data.images import ImageSet
from pcbench.errors import RunError, UserError
from pcbench.models.checkpoints import Metadata, feedback_tensors, save
from pcbench.models.feedback_weights import feedback_identity
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.randomness import reset_parameters
from pcbench.training.batches import Augmentation, Views, evaluation_batches, loader, split, training_batches
from pcbench.training.distributed import Processes
from pcbench.training.folder import Row, TrainingFolder
from pcbench.training.loop import Loop, Report

WEIGHTS_FILE = "feedback.safetensors"


@dataclass(frozen=True)
class FeedbackRecipe:
    """How feedback weights are trained. Two trainings of the same recipe, model and images give the same weights.

    Attributes:
        epochs: passes over the training images, at most.
        batch_size: over all processes together; fewer training images than that are one batch.
        optimiser: "adamw", "sgd" (momentum 0.9) or "rmsprop".
        learning_rate: at its highest.
        weight_decay: of the optimiser.
        schedule: "cosine" (to 0 at the last step) or "constant", both after the warm-up.
        warmup: share of all steps in which the rate rises linearly.
        held_out: share of the images to stop on; 0 for none.
        patience: epochs without a better held-out score after which training stops; 0 for never.
        augment: whether training images are cropped and mirrored at random.
        crop_scale: smallest share of an image's area that a random crop covers.
        dtype: "bfloat16" runs the networks in mixed precision; parameters and losses stay float32.
        seed: of the initial predictors, the order of images and the crops.
    """

    epochs: int = 60
    batch_size: int = 64
    optimiser: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.02
    held_out: float = 0.1
    patience: int = 0
    augment: bool = True
    crop_scale: float = 0.35
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UserError: a value makes no sense."""
        for name, low in {"epochs": 1, "batch_size": 1, "patience": 0, "weight_decay": 0, "warmup": 0}.items():
            if getattr(self, name) < low:
                raise UserError(f"{name} is {getattr(self, name)}; the smallest is {low}")
        if not self.learning_rate > 0 or not math.isfinite(self.learning_rate):
            raise UserError(f"the learning rate is {self.learning_rate}; it must be above 0")
        if not 0 < self.crop_scale <= 1:
            raise UserError(f"crop_scale is {self.crop_scale}; it is a share of an image's area, in (0, 1]")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step (0 .. steps - 1)."""
        rising = self.warmup * steps
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


@dataclass(frozen=True)
class Outcome:
    """A finished training.

    Attributes:
        rows: the log, one row an epoch.
        best: the row of the weights that were kept.
        stopped_early: whether patience ran out.
    """

    rows: list[Row]
    best: Row
    stopped_early: bool


@torch.no_grad()
def levels(model: PredictiveClassifier, images: Tensor) -> list[Tensor]:
    """The representations e_0 .. e_N at t = 0 of images (B, C, H, W) in [0, 1]; e_0 is the normalised image."""
    x = model.normalise(images.to(memory_format=torch.channels_last))
    return [x, *next(iter(model.network.unroll(x, timesteps=0))).representations]


class Decoders(nn.Module):
    """The predictors of a network, as one module with one loss per predictor."""

    def __init__(self, predictors: Sequence[nn.Module]) -> None:
        super().__init__()
        self.predictors = nn.ModuleList(predictors)

    def initialise(self, seed: int) -> None:
        """Draw the parameters anew, as torch.nn does, from the seed."""
        reset_parameters(self.predictors, seed, "feedback weights")

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Mean squared errors (N,) of predicting levels[n - 1] from levels[n]; levels: e_0 .. e_N, each (B, ...)."""
        losses = []
        for n, predictor in enumerate(self.predictors, start=1):
            predicted: Tensor = predictor(levels[n])
            losses.append((predicted.float() - levels[n - 1].float()).square().mean())
        return torch.stack(losses)


class FeedbackTraining(Loop[Tensor]):
    """A training of the feedback weights of one network; `run` begins it, or goes on from the state in its folder.

    Args:
        model: a predictive network; its predictors are trained in place, from new initial values.
        images: what to train on; labels play no part.
        recipe: how.
        processes: where, and on how many.
        workers: processes that read images.
        start: whether to begin with the predictors as they are, and not with new ones drawn with the recipe's seed.
        checkpoint_steps: after how many steps the state is kept; it always is at the end of an epoch.
    """

    def __init__(
        self,
        model: PredictiveClassifier,
        images: ImageSet,
        recipe: FeedbackRecipe,
        processes: Processes,
        *,
        workers: int = 0,
        start: bool = False,
        checkpoint_steps: int = 500,
    ) -> None:
        self.recipe, self.workers = recipe, workers
        self.images = images
        self.train_positions, self.held_out = split(images.ids, recipe.held_out)
        self.batch = min(recipe.batch_size, len(self.train_positions))
        if self.batch % processes.world:
            raise UserError(f"a batch of {self.batch} does not divide among {processes.world} processes")
        self.model = model.to(processes.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self.decoders = Decoders([pcoder.get_submodule("predictor") for pcoder in model.network.pcoders])
        if not start:
            self.decoders.initialise(recipe.seed)
        self.decoders.requires_grad_(True).train()
        self.optimiser = _optimiser(recipe, self.decoders)
        augmentation = Augmentation(scale=(recipe.crop_scale, 1.0)) if recipe.augment else None
        self.views = Views(images, model.preprocessing, augmentation, recipe.seed)
        self.best: dict[str, Any] = {}
        self._trained = DistributedDataParallel(self.decoders) if processes.world > 1 else self.decoders
        per_epoch = len(self.train_positions) // self.batch
        count = len(self.decoders.predictors)
        super().__init__(recipe.epochs, per_epoch, self.batch, processes, checkpoint_steps, count)

    def run(self, folder: TrainingFolder | None = None, progress: Report = lambda _: None) -> Outcome:
        """Train to the end. With a folder: resume from its state, and keep state, log and best weights in it.

        Raises:
            RunError: a loss is not finite.
            UserError: the folder's state is damaged.
        """
        self.advance(folder, progress)
        self.decoders.load_state_dict(self.best["decoders"])
        self.decoders.requires_grad_(False).eval()
        best = next(row for row in self.rows if row["epoch"] == self.best["epoch"])
        return Outcome(self.rows, best, self.step < self.steps)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.recipe.dtype == "bfloat16")

    def _batches(self) -> Iterator[Tensor]:
        # One loader for all remaining epochs, so that workers start once and read across epochs.
        places = training_batches(
            self.train_positions,
            self.batch,
            range(self.step, self.steps),
            self.recipe.seed,
            self.processes.rank,
            self.processes.world,
        )
        for images, _, _ in loader(self.views, places, self.workers, self.processes.device):
            yield images

    def _levels(self, images: Tensor) -> list[Tensor]:
        return levels(self.model, images.to(self.processes.device, non_blocking=True))

    def _train_step(self, images: Tensor) -> Tensor:
        rate = self.recipe.rate(self.step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with self._precision():
            losses: Tensor = self._trained(self._levels(images))
        if not bool(losses.isfinite().all()):
            n = int((~losses.isfinite()).nonzero()[0]) + 1
            raise RunError(f"the loss of PCoder {n} is not finite at step {self.step}; try a lower learning rate")
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.sum())
        self.optimiser.step()
        return losses.detach().double().cpu()

    def _row(self, speed: float, means: list[float]) -> Row:
        row: Row = {
            "epoch": self.epoch,
            "step": self.step,
            "learning_rate": self.recipe.rate(self.step - 1, self.steps) if self.step else 0.0,
            "images_per_second": speed,
        }
        row |= {f"train_loss_{n}": loss for n, loss in enumerate(means, start=1)}
        score = sum(means)
        if self.held_out:
            loss, explained = self.evaluate(self.held_out)
            row |= {f"held_out_loss_{n}": value for n, value in enumerate(loss, start=1)}
            row |= {f"explained_variance_{n}": value for n, value in enumerate(explained, start=1)}
            score = 1 - sum(explained) / len(explained)
        row["score"] = score
        if not self.best or score < self.best["score"]:
            parameters = {name: tensor.detach().cpu().clone() for name, tensor in self.decoders.state_dict().items()}
            self.best = {"score": score, "epoch": self.epoch, "decoders": parameters}
        return row

    def evaluate(self, positions: list[int]) -> tuple[list[float], list[float]]:
        """Loss and explained variance of each predictor on images, as the model's own preprocessing shows them.

        Explained variance: 1 - (mean squared error) / (variance of the layer below, over all images, channels and
        places). 0 is the best constant prediction, 1 a perfect one.
        """
        totals = torch.zeros(4, len(self.decoders.predictors), dtype=torch.float64)  # squared error, n, sum, squares
        batches = evaluation_batches(
            positions,
            max(1, self.batch // self.processes.world),
            self.processes.rank,
            self.processes.world,
        )
        self.decoders.eval()
        for images, _, _ in loader(self.views, batches, self.workers, self.processes.device):
            with torch.no_grad(), self._precision():
                levels = self._levels(images)
                losses = self.decoders(levels)
            for n, target in enumerate(levels[:-1]):
                values = target.double()
                moments = torch.stack([values.sum(), values.square().sum()]).cpu()
                totals[:, n] += torch.cat(
                    [torch.tensor([float(losses[n]) * target.numel(), target.numel()], dtype=torch.float64), moments]
                )
        self.decoders.train()
        errors, counts, sums, squares = self.processes.total(totals)
        variance = squares / counts - (sums / counts).square()
        loss = errors / counts
        return loss.tolist(), (1 - loss / variance).tolist()

    def _enough(self) -> bool:
        waited = self.epoch - int(self.best["epoch"]) if self.best else 0
        return 0 < self.recipe.patience <= waited

    def _restore(self, state: dict[str, Any]) -> None:
        self.decoders.load_state_dict(state["decoders"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best = state["best"]

    def _state(self) -> dict[str, object]:
        return {
            "decoders": self.decoders.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
        }


def save_weights(
    model: PredictiveClassifier, images: ImageSet, held_out: int, recipe: str, path: Path, *, half: bool
) -> Metadata:
    """Write the feedback weights of a network in the native format, and say in the file where they come from.

    Args:
        model: whose predictors were trained.
        images: all of them.
        held_out: how many of them were not trained on.
        recipe: how they were trained, one line.
        path: of the file.
        half: store them in half precision.
    """
    backbone = f"seed {model.provenance.get('seed', 0)}" if model.weights == "random" else model.weights
    metadata = Metadata(
        architecture=model.name,
        configuration=feedback_identity(model.network),
        data=f"{images.name}: {len(images) - held_out} images, {held_out} held out",
        recipe=f"pcbench train feedback: backbone {backbone}, {recipe}",
    )
    return save(path, feedback_tensors(model.network), metadata, half=half)


def _optimiser(recipe: FeedbackRecipe, decoders: Decoders) -> torch.optim.Optimizer:
    parameters = decoders.parameters()
    match recipe.optimiser:
        case "adamw":
            return torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        case "sgd":
            return torch.optim.SGD(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, momentum=0.9)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
