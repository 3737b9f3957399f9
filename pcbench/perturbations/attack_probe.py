"""The kind `attack-probe`: is this a model that a gradient attack can be believed on? Images pass unchanged."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier
from pcbench.perturbations.attack import check_readout, settle_readout
from pcbench.perturbations.attacks.isolation import frozen, seeded
from pcbench.perturbations.attacks.memory import wants_checkpointing
from pcbench.perturbations.base import KINDS, Context, Perturbation, Perturbed
from pcbench.randomness import key
from pcbench.tables import Table

# Predicted change of a logit margin over a finite difference, as a share of the spread of the logits: large beside the
# rounding of float32, small beside the distances at which networks bend.
CHANGE = 0.002
QUANTUM = 0.05 / 255  # a change of every pixel that eight bits do not show
LONGEST = 0.1  # L2 length of a step, for answers that hardly change


class ProbeTable(Table):
    """`kind = "attack-probe"`. at: the timesteps whose answer is probed, as for attacks."""

    at: list[int | str] = Field(default=["T"], min_length=1)


class AttackProbe(Perturbation):
    """What AutoAttack's flags ask about a model, and whether its gradients are those of what it computes.

    Columns, for each image and the answer at one timestep:
    - "probe_randomised": two passes differ by more than rounding.
    - "probe_softmax": the answer is a probability distribution, so that losses on logits saturate.
    - "probe_zero_gradient": the gradient of the cross-entropy is zero or not finite.
    - "probe_optimises": the forward pass takes gradients inside (optimisation at test time).
    - "probe_gradient_error": largest disagreement between gradient and central finite differences of the logit margin,
      along the gradient, along its sign, and along the gradient at t = 0; relative, in [0, 2]. Detached states and
      untracked error gradients show here.
    - "probe_loss_cosine": cosine between the gradients of the cross-entropy and of the margin. Small where logits
      saturate or were pressed together (label smoothing), so that attacks on the one loss miss what the other finds.
    - "probe_quantised": the answer does not change at all under a change of the image that the gradient could not
      have, a hundredth of the smallest step of eight-bit images along its sign: the input is rounded.
    - "probe_truncation_cosine": cosine between the exact and the truncated gradient; NaN for a model without the
      second.
    """

    shared = False

    @classmethod
    def conditions(cls, suite: str, table: Mapping[str, object]) -> list[Condition]:
        """One condition for each timestep; severity 0."""
        found = []
        for at in ProbeTable.read(suite, table).at:
            check_readout(at, f"suite {suite}, attack probe")
            found.append(Condition("attack-probe", "probe", "probe", 0.0, {"at": at}))
        return found

    @classmethod
    def for_model(cls, condition: Condition, model: TemporalClassifier, timesteps: int) -> list[Condition]:
        """The condition with its timestep settled. Raises UserError: a timestep beyond T, or no timestep."""
        params = {name: value for name, value in condition.params.items() if name != "attack_gradient"}
        gradient = str(condition.params.get("attack_gradient") or "exact")
        params["gradient"] = gradient if gradient in model.gradients else "exact"
        readouts = settle_readout(condition.params["at"], timesteps, model, condition.perturbation)
        return [replace(condition, params={**params, "at": t}) for readout, t in readouts if readout == "timestep"]

    def on_float(self, images: Tensor, context: Context) -> Perturbed:
        """Ask, one image at a time, so that no answer depends on the batch."""
        t = self.condition.params["at"]
        assert isinstance(t, int)
        rows = []
        gradient = str(self.condition.params["gradient"])
        model = context.model
        with frozen(model):
            checkpointing = wants_checkpointing(model, tuple(images.shape[1:]), t, 1)
            for image, label, name in zip(images.detach().clone(), context.labels.clone(), context.ids, strict=True):
                with (
                    seeded(key(context.seed, name, "probe"), images.device),
                    model.differentiated(gradient, checkpointing),
                ):
                    rows.append(probe(model, t, image[None], label[None]))
        columns = {f"probe_{name}": torch.tensor([row[name] for row in rows]) for name in rows[0]}
        return Perturbed(images, columns)


def probe(model: TemporalClassifier, t: int, image: Tensor, label: Tensor) -> dict[str, bool | float]:
    """The columns of `AttackProbe`, without their prefix, for one image (1, C, H, W)."""
    with torch.no_grad(), _watched() as calls:
        first = model(image, timesteps=t)[-1]
    with torch.no_grad():
        second = model(image, timesteps=t)[-1]
    scale = float(first.abs().max().clamp_min(1e-6))
    total = float(first.sum())
    loss = _gradient(model, t, image, lambda logits: F.cross_entropy(logits, label))
    return {
        "randomised": float((first - second).abs().max()) > 1e-5 * scale,
        "softmax": float(first.min()) >= 0 and abs(total - 1) < 1e-3,
        "zero_gradient": not bool(loss.isfinite().all()) or not bool(loss.any()),
        "optimises": bool(calls),
        "gradient_error": _disagreement(model, t, image, label),
        "loss_cosine": _cosine(loss, _gradient(model, t, image, lambda logits: _margin(logits, first, label))),
        "quantised": _quantised(model, t, image),
        "truncation_cosine": _truncation(model, t, image, loss, label),
    }


def _gradient(model: TemporalClassifier, t: int, image: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Zero where the answer does not depend on the image as far as autograd knows."""
    asked = image.clone().requires_grad_()
    value = loss(model(asked, timesteps=t)[-1])
    if not value.requires_grad:
        return torch.zeros_like(image)
    (found,) = torch.autograd.grad(value, asked, allow_unused=True)
    return torch.zeros_like(image) if found is None else found


def _disagreement(model: TemporalClassifier, t: int, image: Tensor, label: Tensor) -> float:
    with torch.no_grad():
        clean = model(image, timesteps=t)[-1]
        change = CHANGE * float(clean.max() - clean.min())

    def margin(logits: Tensor) -> Tensor:
        return _margin(logits, clean, label)

    gradient = _gradient(model, t, image, margin)
    first = _gradient(model, 0, image, margin)
    length = float(gradient.norm())
    worst = 0.0
    # Where autograd says that nothing matters, any direction is a test: one image away from the middle, scaled.
    flat = (image - 0.5) if not bool(gradient.any()) else torch.zeros_like(image)
    for direction in (gradient, gradient.sign(), first, flat):
        if not bool(direction.any()):
            continue
        unit = direction / direction.norm()
        step = min(change / max(length, float((first * unit).sum().abs()), 1e-30), LONGEST)
        with torch.no_grad():
            ahead, behind = (margin(model(image + side * step * unit, timesteps=t)[-1]) for side in (1, -1))
        measured, claimed = float((ahead - behind) / (2 * step)), float((gradient * unit).sum())
        worst = max(worst, abs(measured - claimed) / max(abs(measured), abs(claimed), 0.1 * length, 1e-6))
    return worst


def _truncation(model: TemporalClassifier, t: int, image: Tensor, gradient: Tensor, label: Tensor) -> float:
    if "truncated" not in model.gradients:
        return float("nan")
    other = "truncated" if model.gradient == "exact" else "exact"
    with model.differentiated(other):
        there = _gradient(model, t, image, lambda logits: F.cross_entropy(logits, label))
    return _cosine(gradient, there)


def _margin(logits: Tensor, clean: Tensor, label: Tensor) -> Tensor:
    """The largest other logit of the clean image, minus the label's."""
    others = clean.index_fill(1, label, -torch.inf).argmax(-1)
    return (logits[0, others] - logits[0, label]).squeeze()


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0, eps=1e-30))


def _quantised(model: TemporalClassifier, t: int, image: Tensor) -> bool:
    """Whether two images that differ everywhere, by a step that no rounding to eight bits would keep, look the same."""
    step = QUANTUM * torch.ones_like(image)
    with torch.no_grad():
        ahead = model((image * (1 - 2 * QUANTUM) + QUANTUM + step).clamp(0, 1), timesteps=t)[-1]
        there = model((image * (1 - 2 * QUANTUM) + QUANTUM).clamp(0, 1), timesteps=t)[-1]
    return bool(torch.equal(ahead, there))


@contextmanager
def _watched() -> Iterator[list[str]]:
    """Notes each call of autograd's two entry points while the context lasts."""
    calls: list[str] = []
    before: dict[str, Any] = {name: getattr(torch.autograd, name) for name in ("grad", "backward")}

    def noting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            return before[name](*arguments, **named)

        return call

    try:
        for name in before:
            setattr(torch.autograd, name, noting(name))
        yield calls
    finally:
        for name, function in before.items():
            setattr(torch.autograd, name, function)


KINDS.register("attack-probe", AttackProbe)
