"""A small predictive network, trained on a small task, for attacks that take milliseconds."""

from functools import cache
from typing import ClassVar

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcbench.models.base import Preprocessing, TemporalClassifier
from pcbench.perturbations.attack import AttackImages
from pcbench.perturbations.base import KINDS, Context, Perturbed
from pcbench.results.cell import condition_values

CLASSES = 5
SIDE = 8
TIMESTEPS = 3


class Tiny(TemporalClassifier):
    """One PCoder with its error term in closed form: e += error-correction of the prediction of the image.

    masked: the state is detached between timesteps, so that gradients see the last timestep alone.
    """

    gradients: ClassVar[tuple[str, ...]] = ("exact", "truncated")

    def __init__(self, masked: bool = False) -> None:
        super().__init__(CLASSES, Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.25,) * 3), TIMESTEPS)
        self.encoder = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.decoder = nn.ConvTranspose2d(12, 3, 4, stride=2, padding=1)
        self.head = nn.Linear(12 * 16, CLASSES)
        self.masked = masked

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        drive = F.softplus(self.encoder(x))
        state = drive
        answers = [self.head(state.flatten(1))]
        for _ in range(timesteps):
            state = self._update(state, drive, x)
            answers.append(self.head(state.flatten(1)))
        return torch.stack(answers)

    def _update(self, state: Tensor, drive: Tensor, x: Tensor) -> Tensor:
        if self.masked:
            state, drive = state.detach(), 0.98 * drive.detach() + 0.02 * drive
        error = self.decoder(state) - x
        gradient = F.conv2d(error, self.decoder.weight, stride=2, padding=1)
        if self.gradient == "truncated":
            gradient = gradient.detach()
        return 0.5 * drive + 0.5 * state - 0.5 * gradient


class Checkpointed(Tiny):
    """The same with many timesteps and activation checkpointing."""

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        if not self.checkpointing:
            return super().rollout(x, timesteps)
        drive = F.softplus(self.encoder(x))
        state = drive
        answers = [self.head(state.flatten(1))]
        for _ in range(timesteps):
            state = torch.utils.checkpoint.checkpoint(self._update, state, drive, x, use_reentrant=False)
            answers.append(self.head(state.flatten(1)))
        return torch.stack(answers)


def task(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] of classes that differ by a faint pattern, and labels."""
    patterns = torch.rand(CLASSES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    noise = torch.rand(count, 3, SIDE, SIDE, generator=generator)
    return (0.2 * patterns[labels] + 0.8 * noise).clamp(0, 1), labels


@cache
@torch.enable_grad()
def network(masked: bool = False) -> Tiny:
    """The trained network; masked: the same parameters, with detached states."""
    torch.manual_seed(0)
    if not masked:
        return trained(Tiny())
    model = Tiny(masked=True)
    model.load_state_dict(network().state_dict())
    return model.eval().requires_grad_(False)


def trained(model: Tiny) -> Tiny:
    """The model, trained on the answers at every timestep."""
    torch.manual_seed(0)
    images, labels = task(1024, seed=2)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(80):
        rows = torch.randperm(1024, generator=torch.Generator().manual_seed(step))[:128]
        logits = model(images[rows])
        loss = F.cross_entropy(logits.flatten(0, 1), labels[rows].repeat(len(logits)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval().requires_grad_(False)


def context(model: TemporalClassifier, labels: Tensor, ids: list[str] | None = None, seed: int = 0) -> Context:
    return Context(ids or [f"image-{i}" for i in range(len(labels))], labels, seed, model, model.timesteps)


def attack(
    model: TemporalClassifier,
    images: Tensor,
    labels: Tensor,
    ids: list[str] | None = None,
    seed: int = 0,
    **table: object,
) -> Perturbed:
    """Run the one condition that a table describes."""
    (planned,) = AttackImages.conditions("test", {"kind": "attack", **table})
    (condition,) = AttackImages.for_model(planned, model, model.timesteps)
    return AttackImages(condition).on_float(images, context(model, labels, ids, seed))


def accuracy(model: TemporalClassifier, images: Tensor, labels: Tensor, t: int = TIMESTEPS) -> float:
    with torch.no_grad():
        return float((model(images, timesteps=t)[-1].argmax(-1) == labels).float().mean())


def evaluate(
    model: TemporalClassifier, tables: list[dict[str, object]], images: Tensor, labels: Tensor
) -> pd.DataFrame:
    """Records of a model under the conditions of a suite's tables, as a run would have them."""
    asked = context(model, labels)
    frames = []
    for table in tables:
        kind = KINDS[str(table["kind"])]
        for planned in kind.conditions("test", table):
            for condition in kind.for_model(planned, model, model.timesteps):
                result = kind(condition).on_float(images, asked)
                with torch.no_grad():
                    predictions = model(result.images).argmax(-1)
                for t, answers in enumerate(predictions):
                    frame = pd.DataFrame(
                        {
                            "image": asked.ids,
                            "label": labels,
                            "timestep": t,
                            "prediction": answers,
                            "correct": answers == labels,
                            **{name: column.numpy() for name, column in result.columns.items()},
                        }
                    )
                    cell = {"model": "tiny", "weights": "random", "data": "task", "suite": "test"}
                    cell |= {**condition_values(condition), "cell": condition.digest, "has_dynamics": True}
                    frames.append(frame.assign(**cell))
    return pd.concat(frames, ignore_index=True)
