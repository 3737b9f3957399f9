"""An attack: one step along the sign of the gradient, as far as epsilon allows."""

from collections.abc import Sequence

import torch

from pcbench.perturbations.attacks.attack import Attack, engine
from pcbench.perturbations.attacks.engine import Ball, Method, State
from pcbench.perturbations.attacks.victim import Answer, Rows


class SignStep(Method):
    """Asks about the image, steps, and asks once more. The engine keeps to the ball and to [0, 1]."""

    steps = 2

    def begin(self, rows: Rows, ball: Ball, restarts: Sequence[int], generators: Sequence[torch.Generator]) -> State:
        """Start at the image."""
        return {"x": rows.origin.clone()}

    def advance(self, rows: Rows, ball: Ball, state: State, answer: Answer) -> None:
        """`answer.gradient` points to where the attack succeeds."""
        assert answer.gradient is not None
        state["x"] = rows.origin + ball.epsilon * answer.gradient.sign()


SIGN = Attack(
    "example-sign",
    "one signed step",
    engine(lambda options: SignStep()),
    norms=("linf",),
    losses=("margin", "ce", "dlr"),
    knowledge="single-step",
)
