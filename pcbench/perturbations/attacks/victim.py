"""What an attack asks of a network with dynamics: its answers at a readout, a loss on them, and the loss's gradient."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pcbench.errors import RunError, UserError
from pcbench.models.base import TemporalClassifier
from pcbench.perturbations.attacks.isolation import seeded
from pcbench.perturbations.attacks.losses import Loss, gap
from pcbench.perturbations.attacks.memory import out_of_memory

Readout = Literal["timestep", "mean", "worst", "sum"]
Objective = Literal["readout", "timesteps", "each-timestep", "states"]
READOUTS: tuple[Readout, ...] = ("timestep", "mean", "worst", "sum")
OBJECTIVES: tuple[Objective, ...] = ("readout", "timesteps", "each-timestep", "states")


@dataclass(frozen=True)
class Aim:
    """Which answer of the unrolled network is attacked, and what is differentiated to get there.

    Readouts, of the answers at s = 0..at:
    - "timestep": the answer at `at`; the network is unrolled no further.
    - "mean": the logarithm of the mean over s of the class probabilities, which is the cumulative prediction.
    - "worst": the answer at the s at which the attack is furthest, so that it succeeds when any timestep is wrong.
    - "sum": all answers jointly: losses are added up, and the attack succeeds when every timestep is wrong.

    Objectives:
    - "readout": the loss at the readout.
    - "timesteps": the sum of the losses at all s, however the attack is judged.
    - "each-timestep": a step of its own for each s: gradients are added up after each was divided by its mean
      magnitude, so that no timestep's gradient drowns another's.
    - "states": the loss at the readout, and how far the representations e_n(s), s <= at, have moved from those of the
      clean image, relative to their length: attacks on intermediate states broke deep-equilibrium networks that the
      exact gradient of the last state had not (arXiv 2306.01429).

    Attributes:
        readout: see above.
        at: the timestep, or the last one that the other readouts run over.
        objective: see above.
        samples: for networks that draw their state at random: answers that losses and gradients are averaged over
            (expectation over transformation, Athalye et al., 2018); 0 for networks that do not.
    """

    readout: Readout
    at: int
    objective: Objective = "readout"
    samples: int = 0


@dataclass(frozen=True)
class Rows:
    """What is attacked: B rows, each an image with what decides its attack.

    Attributes:
        origin: (B, C, H, W) in [0, 1], the clean images.
        labels: (B,) int64.
        targets: (B,) int64, the class that the loss pulls towards; -1 for none.
        goals: (B,) int64, the class that must be answered; -1 where any but the label will do.
        keys: B integers, of each row's random numbers.
    """

    origin: Tensor
    labels: Tensor
    targets: Tensor
    goals: Tensor
    keys: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Rows":
        """Some of the rows. index: (N,) int64 on the rows' device."""
        return Rows(
            self.origin[index],
            self.labels[index],
            self.targets[index],
            self.goals[index],
            [self.keys[i] for i in index.tolist()],
        )

    def join(self, others: "Rows") -> "Rows":
        """These rows, then the others."""
        return Rows(
            torch.cat([self.origin, others.origin]),
            torch.cat([self.labels, others.labels]),
            torch.cat([self.targets, others.targets]),
            torch.cat([self.goals, others.goals]),
            [*self.keys, *others.keys],
        )


@dataclass(frozen=True)
class Answer:
    """What the network said to B images.

    Attributes:
        loss: (B,) of the attack's loss at the readout.
        gap: (B,) how far the attack is beyond its goal, in logits; positive when it reached it.
        logits: (B, classes) at the readout (for "sum", the mean over timesteps).
        gradient: (B, C, H, W) of the objective, finite; None when it was not asked for.
        jacobian: (B, classes, C, H, W) of the logits at the readout; None when it was not asked for.
    """

    loss: Tensor
    gap: Tensor
    logits: Tensor
    gradient: Tensor | None = None
    jacobian: Tensor | None = None


class Victim:
    """Answers an attack's questions in pieces that fit the memory. Nothing of it depends on the size of a piece.

    Args:
        model: in eval mode, its parameters without gradients.
        aim: what is attacked.
        loss: what the attack climbs.
        gradient: how gradients through time are taken, one of `model.gradients`.
        checkpointing: recompute timesteps in the backward pass; switched on when there is no other way.
        limit: images in one piece; halved when memory runs out.
    """

    def __init__(
        self,
        model: TemporalClassifier,
        aim: Aim,
        loss: Loss,
        *,
        gradient: str = "exact",
        checkpointing: bool = False,
        limit: int = 64,
    ) -> None:
        self.model = model
        self.aim = aim
        self.loss = loss
        self.gradient = gradient
        self.checkpointing = checkpointing
        self.limit = limit
        self.passes = 0

    def ask(self, images: Tensor, rows: Rows, gradient: bool, *, each_class: bool = False) -> Answer:
        """Answers to (B, C, H, W) images in [0, 1], one for each row.

        Args:
            images: to ask about.
            rows: that they belong to.
            gradient: whether to take the objective's gradient.
            each_class: take the gradient of every logit instead.

        Raises:
            RunError: there is no memory for a single image, even when timesteps are recomputed.
        """
        parts: list[Answer] = []
        start = 0
        while start < len(images):
            size = 1 if self.aim.samples else self.limit
            index = torch.arange(start, min(start + size, len(images)), device=images.device)
            whole = len(index) == len(images)
            try:
                with self.model.differentiated(self.gradient, self.checkpointing):
                    part = self._piece(
                        images if whole else images[index], rows if whole else rows.take(index), gradient, each_class
                    )
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                part = None  # handled outside, where the frames that hold the memory are gone
            if part is None:
                self._back_off(len(index), gradient)
                continue
            parts.append(part)
            start += len(index)
        self.passes += len(images)
        if len(parts) == 1:
            return parts[0]
        gradients = [part.gradient for part in parts if part.gradient is not None]
        jacobians = [part.jacobian for part in parts if part.jacobian is not None]
        return Answer(
            torch.cat([part.loss for part in parts]),
            torch.cat([part.gap for part in parts]),
            torch.cat([part.logits for part in parts]),
            torch.cat(gradients) if gradients else None,
            torch.cat(jacobians) if jacobians else None,
        )

    def _back_off(self, size: int, gradient: bool) -> None:
        if size > 1:
            self.limit = size // 2
        elif gradient and self.model.has_dynamics and not self.checkpointing:
            self.checkpointing = True
        else:
            raise RunError(
                f"{self.model.name or 'the model'}: there is no memory for an attack on a single image at "
                f"T = {self.aim.at}; attack an earlier timestep, or free memory"
            )
        if self.model.mean.device.type == "cuda":
            torch.cuda.empty_cache()

    def _piece(self, images: Tensor, rows: Rows, gradient: bool, each_class: bool) -> Answer:
        if not self.aim.samples:
            return self._answer(images, rows, gradient, each_class)
        with seeded(rows.keys[0], images.device):
            return self._answer(images, rows, gradient, each_class)

    def _answer(self, images: Tensor, rows: Rows, gradient: bool, each_class: bool) -> Answer:
        with torch.set_grad_enabled(gradient):
            asked = images.detach().requires_grad_(gradient)
            several = asked.expand(self.aim.samples, -1, -1, -1) if self.aim.samples else asked
            states = gradient and self.aim.objective == "states"
            logits, moved = self._with_states(several, rows.origin) if states else (self._logits(several), None)
            logits = _at_least_single(logits)
            seen = self._each(logits, rows)
            value, read = self._read(logits, rows)
            value = self._averaged(value)
            found = jacobian = None
            if gradient and each_class:
                logit = (self._averaged(read) if self.aim.samples else read).sum(0)
                jacobian = torch.stack([_gradient_of(one, asked, again=True) for one in logit], dim=1)
            elif gradient:
                found = self._gradient(asked, seen, value, moved)
        with torch.no_grad():
            reached = self._gap(logits, read, rows)
            read = read.detach()
            if self.aim.samples:
                read = _mean(read.unsqueeze(1))
        return Answer(value.detach(), reached.nan_to_num(nan=-math.inf), read, found, jacobian)

    def logits(self, images: Tensor, rows: Rows) -> Tensor:
        """(B, classes) at the readout, differentiable, for those who take gradients themselves."""
        with self.model.differentiated(self.gradient, self.checkpointing):
            return self._read(_at_least_single(self._logits(images)), rows)[1]

    def _logits(self, images: Tensor) -> Tensor:
        """(S, B, classes): the answers that the aim is about."""
        if self.aim.readout == "timestep" and self.aim.objective in ("readout", "states"):
            return self.model(images, timesteps=self.aim.at)[-1:]  # type: ignore[no-any-return]  # as below
        return self.model(images, timesteps=self.aim.at)  # type: ignore[no-any-return]  # nn.Module's call is untyped

    def _with_states(self, images: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and (B,) the squared relative displacement of the representations, summed over n and s."""
        answers, moved = [], images.new_zeros(len(images))
        with torch.no_grad():
            clean = [states for _, states in self.model.representations(origin.expand_as(images), self.aim.at)]
        for (logits, states), before in zip(self.model.representations(images, self.aim.at), clean, strict=True):
            answers.append(logits)
            for state, rest in zip(states, before, strict=True):
                length = rest.float().square().flatten(1).sum(1).clamp_min(1e-12)
                moved = moved + (state.float() - rest.float()).square().flatten(1).sum(1) / length
        stacked = torch.stack(answers)
        return (stacked[-1:] if self.aim.readout == "timestep" else stacked), moved

    def _each(self, logits: Tensor, rows: Rows) -> list[Tensor]:
        """The loss at every timestep that `_logits` returned, (B,) each; empty when the objective has no use for it."""
        if self.aim.objective not in ("timesteps", "each-timestep"):
            return []
        rows = self._repeated(rows)
        return [self._averaged(self.loss(one, rows.labels, rows.targets)) for one in logits]

    def _read(self, logits: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """The loss at the readout (B,), and the logits there (B, classes); before averaging over samples."""
        rows = self._repeated(rows)
        match self.aim.readout:
            case "timestep":
                read = logits[-1]
            case "mean":
                read = _mean(logits)
            case "worst":
                reached = torch.stack([gap(one.detach(), rows.labels, rows.goals) for one in logits])
                read = logits[reached.argmax(0), torch.arange(logits.shape[1], device=logits.device)]
            case "sum":
                losses = [self.loss(one, rows.labels, rows.targets) for one in logits]
                return torch.stack(losses).sum(0), logits.mean(0)
        return self.loss(read, rows.labels, rows.targets), read

    def _gap(self, logits: Tensor, read: Tensor, rows: Rows) -> Tensor:
        if self.aim.samples:  # of the probabilities averaged over the draws
            logits, read = _mean(logits.transpose(0, 1)).unsqueeze(1), _mean(read.unsqueeze(1))
        if self.aim.readout != "sum":
            return gap(read, rows.labels, rows.goals)
        return torch.stack([gap(one, rows.labels, rows.goals) for one in logits]).amin(0)

    def _gradient(self, asked: Tensor, seen: list[Tensor], value: Tensor, moved: Tensor | None) -> Tensor:
        """Of the objective, with respect to the images."""
        match self.aim.objective:
            case "readout":
                return _gradient_of(value, asked)
            case "timesteps":
                return _gradient_of(torch.stack(seen).sum(0), asked)
            case "states":
                assert moved is not None
                return _gradient_of(value + self._averaged(moved), asked)
            case "each-timestep":
                parts = [_gradient_of(one, asked, again=one is not seen[-1]) for one in seen]
                return torch.stack([part / mean_magnitude(part) for part in parts]).sum(0)

    def _repeated(self, rows: Rows) -> Rows:
        """The one row as often as there are samples."""
        if not self.aim.samples:
            return rows
        return rows.take(torch.zeros(self.aim.samples, dtype=torch.long, device=rows.labels.device))

    def _averaged(self, values: Tensor) -> Tensor:
        return values.mean(0, keepdim=True) if self.aim.samples else values


def _gradient_of(values: Tensor, images: Tensor, again: bool = False) -> Tensor:
    """Of their sum, finite, laid out like the images; `again`: others will be taken through the same pass."""
    if not values.requires_grad:
        raise UserError("the model gives no gradients with respect to its images; attacks that need none: square")
    (found,) = torch.autograd.grad(values.sum(), images, retain_graph=again, allow_unused=True)
    if found is None:
        return torch.zeros_like(images)
    return torch.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0).contiguous()


def mean_magnitude(gradient: Tensor) -> Tensor:
    """(B, 1, 1, 1): the mean of |g| of each image, not smaller than what can be divided by."""
    return gradient.abs().mean((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)


def _at_least_single(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _mean(logits: Tensor) -> Tensor:
    """(S, B, classes) -> (B, classes): the logarithm of the mean of the probabilities."""
    return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))
