"""Attacks of other packages, by name: "torchattacks:NAME", "foolbox:NAME", "adv-lib:NAME".

They take one image at a time, so that nothing depends on the batch; the global random states follow from the image's
key while they run; what they return is moved into the ball, and judged here.
"""

import inspect
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pcbench.errors import UserError, did_you_mean
from pcbench.perturbations.attacks.attack import ATTACKS, Attack, Norm, Option, Options
from pcbench.perturbations.attacks.engine import Found, Plan
from pcbench.perturbations.attacks.isolation import seeded
from pcbench.perturbations.attacks.victim import Rows, Victim
from pcbench.randomness import key
from pcbench.registry import Registry

LIBRARIES = Registry[Callable[[str], Attack]]("library of attacks", package="pcbench.perturbations.attacks")
"""From the name of an attack in a library to the attack. Raises UserError: not installed, or no such attack."""

Craft = Callable[["Classifier", Tensor, Tensor, Tensor | None, Plan, Options], Tensor]
"""(classifier, images (1, C, H, W), labels (1,), targets (1,) or None, plan, options) -> images of the same shape."""


def find_attack(name: str) -> Attack:
    """A registered attack, or one of a library.

    Raises:
        UserError: no such attack or library, or the library is not installed.
    """
    library, colon, theirs = name.partition(":")
    return LIBRARIES[library](theirs) if colon else ATTACKS[name]


class Classifier(nn.Module):
    """The attacked readout as an ordinary classifier, images in [0, 1] -> logits, as libraries want it.

    Args:
        victim: what it asks.
        label, goal: (1,), of the image that it will be asked about; "worst" readouts need them.
    """

    def __init__(self, victim: Victim, label: Tensor, goal: Tensor) -> None:
        super().__init__()
        self.model = victim.model
        self.training = False  # some put the model back into the mode that its outermost module says
        self.victim = victim
        self.label = label
        self.goal = goal

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes), a tensor of its own: some attacks write into it."""
        if images.requires_grad:  # some take gradients apart as if they were laid out like the images
            images = images.view_as(images)
            images.register_hook(_contiguous)  # type: ignore[no-untyped-call]  # torch leaves it without types
        self.victim.passes += len(images)
        labels, goals = self.label.expand(len(images)), self.goal.expand(len(images))
        rows = Rows(images, labels, torch.full_like(labels, -1), goals, [0] * len(images))
        return self.victim.logits(images, rows).clone()


def _contiguous(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.contiguous()


def one_by_one(craft: Craft) -> Callable[[Plan, Options], Found]:
    """The `run` of an attack that takes one image at a time."""

    def run(plan: Plan, options: Options) -> Found:
        found = Found.nothing(plan.origin)
        if plan.ball.epsilon == 0:
            return found
        for index in range(len(plan.origin)):
            row = torch.tensor([index], device=plan.labels.device)
            image, label, goal = plan.origin[row], plan.labels[row], plan.goals[row]
            stream = key(plan.seed, plan.ids[index], plan.purpose)
            before = plan.victim.passes
            with seeded(stream, image.device):
                target = goal if int(goal) >= 0 else None
                result = craft(Classifier(plan.victim, label, goal), image, label, target, plan, options).detach()
            result = torch.where(result.isfinite(), result, image).to(image)
            result = plan.ball.project(result, image)
            none = torch.full_like(label, -1)
            gap = plan.victim.ask(result, Rows(image, label, none, goal, [stream]), False).gap
            unknown = torch.full_like(gap, torch.nan)
            passes = torch.tensor([plan.victim.passes - before], device=label.device)
            found.improve(row, Found(result, gap, unknown, unknown, passes))
        return found

    return run


def options_of(function: Callable[..., object], without: tuple[str, ...]) -> dict[str, Option]:
    """The parameters of a function that have a number, a truth value or a text as default."""
    found: dict[str, Option] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in without and isinstance(parameter.default, bool | int | float | str):
            found[name] = parameter.default
    return found


def accepted(function: Callable[..., object], values: Mapping[str, object]) -> dict[str, object]:
    """Those of some named values that a function has parameters for."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in values.items() if name in parameters}


def no_such(package: str, name: str, known: list[str]) -> UserError:
    """What to say of an attack that a library does not have."""
    return UserError(f"{package} has no attack {name!r}; {did_you_mean(name, known)}")


def norms_of(name: str) -> tuple[Norm, ...]:
    """The norms that an attack may be measured in, the one that its name speaks of first."""
    lowered = name.lower()
    if (
        any(word in lowered for word in ("l2", "cw", "carlini", "deepfool", "ddn", "boundary"))
        and "linf" not in lowered
    ):
        return ("l2", "linf")
    if any(word in lowered for word in ("l0", "pixel", "pixle", "jsma", "sparse")):
        return ("l0", "l2", "linf")
    return ("linf", "l2")
