"""Projected gradient descent and what is a case of it: FGSM, BIM, MI-FGSM, PGD."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pcbench.perturbations.attacks.attack import ATTACKS, Attack, Options, engine
from pcbench.perturbations.attacks.ball import random_moves, spread, steepest
from pcbench.perturbations.attacks.engine import Ball, Method, State
from pcbench.perturbations.attacks.victim import Answer, Rows, mean_magnitude

# Step sizes over epsilon by the share of the steps that are done: wide at first, fine at last.
FALLING = ((0.4, 0.5), (0.7, 0.15), (1.0, 0.05))


class GradientSteps(Method):
    """x <- project(x + alpha u(v)), v <- mu v + g / ||g||_1; u is the steepest direction in the norm, v(0) = 0.

    The gradient is divided by its mean magnitude, which is its L1 norm up to a constant, so that the momentum is that
    of Dong et al. (2018); without momentum it makes no difference.

    Args:
        steps: gradient steps; the last image is asked about once more.
        relative_step: alpha over epsilon; 0 for the schedule `FALLING`.
        momentum: mu.
        random_start: start uniformly in the ball, not at the image. Restarts after the first always do.
        restarts, targets, untargeted: see Method.
    """

    def __init__(
        self,
        steps: int,
        relative_step: float = 0.0,
        momentum: float = 0.0,
        random_start: bool = True,
        restarts: int = 1,
        targets: int = 0,
        untargeted: bool = True,
    ) -> None:
        self.steps = steps + 1
        self.relative_step = relative_step
        self.momentum = momentum
        self.random_start = random_start
        self.restarts = restarts
        self.targets = targets
        self.untargeted = untargeted

    def begin(self, rows: Rows, ball: Ball, restarts: Sequence[int], generators: Sequence[torch.Generator]) -> State:
        """See Method."""
        move = random_moves(rows.origin, ball.norm, generators) * ball.epsilon
        starts = torch.tensor([self.random_start or restart > 0 for restart in restarts], device=move.device)
        state = {"x": torch.where(spread(starts), rows.origin + move, rows.origin)}
        return state | {"v": torch.zeros_like(move)} if self.momentum else state

    def advance(self, rows: Rows, ball: Ball, state: State, answer: Answer) -> None:
        """See Method."""
        assert answer.gradient is not None
        direction = answer.gradient / mean_magnitude(answer.gradient)
        if self.momentum:
            state["v"] = direction = self.momentum * state["v"] + direction
        size = spread(self._relative(state["k"]).to(direction) * ball.epsilon)
        state["x"] = state["x"] + size * steepest(direction, ball.norm)

    def _relative(self, k: Tensor) -> Tensor:
        if self.relative_step > 0:
            return torch.full_like(k, 1, dtype=torch.float32) * self.relative_step
        share = k / max(1, self.steps - 1)
        sizes = torch.full_like(share, FALLING[-1][1])
        for end, size in reversed(FALLING):
            sizes = torch.where(share < end, size, sizes)
        return sizes


_ALL = ("margin", "ce", "dlr")


def _steps(reach: float) -> Callable[[Options], GradientSteps]:
    """Steps that are `reach` epsilon long in all, where no length of a step is asked for."""

    def method(options: Options) -> GradientSteps:
        steps = int(options["steps"])
        return GradientSteps(
            steps,
            float(options["relative_step"]) or min(1.0, reach / max(steps, 1)),
            float(options["momentum"]),
            bool(options["random_start"]),
        )

    return method


def _pgd(options: Options) -> Method:
    return GradientSteps(
        int(options["steps"]),
        float(options["relative_step"]),
        float(options["momentum"]),
        bool(options["random_start"]),
        max(1, int(options["restarts"])),
        int(options["targets"]),
    )


for _attack in (
    Attack(
        "fgsm",
        "one step of the size of epsilon along the gradient's sign (Goodfellow et al., 2015)",
        engine(lambda options: GradientSteps(1, 1.0, random_start=bool(options["random_start"]))),
        losses=("ce", "margin", "dlr"),
        options={"random_start": False},
        knowledge="single-step",
        targeted=True,
    ),
    Attack(
        "bim",
        "basic iterative method (Kurakin et al., 2017); relative_step of 0 means 2.5 epsilon / steps",
        engine(_steps(2.5)),
        losses=("ce", "margin", "dlr"),
        options={"steps": 10, "relative_step": 0.0, "momentum": 0.0, "random_start": False},
        targeted=True,
    ),
    Attack(
        "mi-fgsm",
        "momentum iterative method (Dong et al., 2018); relative_step of 0 means epsilon / steps",
        engine(_steps(1.0)),
        losses=("ce", "margin", "dlr"),
        options={"steps": 10, "relative_step": 0.0, "momentum": 1.0, "random_start": False},
        targeted=True,
    ),
    Attack(
        "pgd",
        "projected gradient descent with momentum on the margin, then towards the likeliest classes; relative_step of "
        "0 means 0.5, 0.15, then 0.05 epsilon",
        engine(_pgd),
        losses=_ALL,
        options={
            "steps": 25,
            "restarts": 1,
            "targets": 0,
            "relative_step": 0.0,
            "momentum": 0.75,
            "random_start": True,
        },
        targeted=True,
    ),
):
    ATTACKS.register(_attack.name, _attack)
