"""How a classifier is trained: the recipe, as plain values, and what follows from it."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from pcbench.errors import UserError

Schedule = Literal["one-cycle", "cosine", "steps"]


@dataclass(frozen=True)
class ClassifierRecipe:
    """Two trainings of the same recipe, model and images give the same weights.

    Attributes:
        epochs: passes over the training images.
        batch_size: over all processes together.
        optimiser: "sgd" (Nesterov momentum 0.9) or "adam".
        learning_rate: at its highest.
        weight_decay: of the optimiser.
        schedule: "one-cycle" (up, then down to 0, both linear), "cosine" (up linearly, then down to 0), or "steps" (a
            tenth after 60 % and again after 80 % of the epochs, no warm-up).
        warmup: share of the steps in which the rate rises.
        label_smoothing: share of the target that is spread over all classes.
        ema: decay of the running mean of the parameters, which is what is reported and kept; 0 for none.
        clip: largest norm of the gradient; 0 for none.
        padding: black pixels around an image in memory before the random crop of its own size.
        cutout: side in pixels of the black square laid on each image in memory; 0 for none (DeVries, Taylor 2017).
        crop_scale: smallest share of a streamed image's area that a random crop covers.
        loss_over: cross-entropy of the "last" timestep, or its "mean" over all timesteps.
        timesteps: T in training.
        dtype: "bfloat16" runs the network in mixed precision; parameters stay float32.
        seed: of the initial parameters, the order of images, crops and flips.
    """

    epochs: int = 30
    batch_size: int = 128
    optimiser: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    schedule: Schedule = "one-cycle"
    warmup: float = 0.2
    label_smoothing: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    padding: int = 4
    cutout: int = 0
    crop_scale: float = 0.08
    loss_over: Literal["last", "mean"] = "last"
    timesteps: int = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UserError: a value makes no sense."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; the smallest is 1")
        for name in ("weight_decay", "clip", "padding", "cutout", "timesteps"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("warmup", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")
        if not 0 < self.crop_scale <= 1:
            raise UserError(f"crop_scale is {self.crop_scale}; it is a share of an image's area, in (0, 1]")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"learning_rate is {self.learning_rate}; it must be above 0")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step (0 .. steps - 1)."""
        done = step / steps
        if self.schedule == "steps":
            return self.learning_rate * 0.1 ** ((done >= 0.6) + (done >= 0.8))
        rising = self.warmup * steps
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        down = (step - rising) / (steps - rising)
        if self.schedule == "cosine":
            return self.learning_rate * 0.5 * (1 + math.cos(math.pi * down))
        return self.learning_rate * (1 - down)


# A current fast recipe for small feedforward networks.
CLASSIFIER = ClassifierRecipe(label_smoothing=0.1, ema=0.999, dtype="bfloat16")

# As the code of Cekic, Bakiskan, Madhow 2022 trains; `HAH_SHORT` is the same in fewer epochs.
HAH = ClassifierRecipe(epochs=100, optimiser="adam", learning_rate=1e-3, weight_decay=0.0, schedule="steps", seed=2022)
HAH_SHORT = replace(HAH, epochs=30)

# The published networks were trained by SGD (learning rate 0.01, weight decay 1e-4). Without normalisation in the graph
# that learns slowly: reciprocal gated cells at quarter width reach 56 % of CIFAR-10 after 3 epochs of SGD at 0.02, and
# 70 % after 3 of Adam.
CONVRNN = ClassifierRecipe(optimiser="adam", learning_rate=2e-3, weight_decay=0.0, clip=1.0, schedule="one-cycle")
