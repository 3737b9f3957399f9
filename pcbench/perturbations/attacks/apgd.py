"""Auto-PGD (Croce and Hein, ICML 2020): gradient steps whose size is halved where it stopped helping."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcbench.perturbations.attacks.attack import ATTACKS, Attack, Options, engine
from pcbench.perturbations.attacks.ball import random_moves, spread, steepest
from pcbench.perturbations.attacks.engine import Ball, Method, State
from pcbench.perturbations.attacks.victim import Answer, Rows

ALPHA = 0.75  # momentum of a step
RHO = 0.75  # share of the steps of an interval that must raise the loss


def checkpoints(steps: int) -> list[int]:
    """The iterations after which the step size is looked at.

    The first after 0.22 of the steps, each interval 0.03 shorter than the last, at least 0.06.

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    length, shortest, less = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1), max(int(0.03 * steps), 1)
    found = []
    place = length
    while place <= steps:
        found.append(place)
        length = max(length - less, shortest)
        place += length
    return found


class AutoPGD(Method):
    """x(k+1) = P(x(k) + a (z(k+1) - x(k)) + (1 - a) (x(k) - x(k-1))), z(k+1) = P(x(k) + eta u(gradient)).

    u is the steepest direction in the norm, eta starts at 2 epsilon, a is 0.75 (1 in the first step). At a checkpoint
    eta is halved, and the search goes on from the point of the largest loss, when fewer than 0.75 of the interval's
    steps raised the loss, or when neither eta nor the largest loss has changed since the last checkpoint.

    Args:
        steps: steps after the start.
        restarts, targets: see Method.
    """

    def __init__(self, steps: int, restarts: int = 1, targets: int = 0) -> None:
        self.steps = steps + 1
        self.restarts = restarts
        self.targets = targets
        self.untargeted = targets == 0
        places = checkpoints(steps)
        lengths = {place: place - before for place, before in zip(places, [0, *places], strict=False)}
        self._interval = [lengths.get(k, 0) for k in range(self.steps + 1)]

    def begin(self, rows: Rows, ball: Ball, restarts: Sequence[int], generators: Sequence[torch.Generator]) -> State:
        """See Method."""
        x = ball.project(rows.origin + ball.epsilon * random_moves(rows.origin, ball.norm, generators), rows.origin)
        none = torch.full((len(rows),), -torch.inf, device=x.device)
        return {
            "x": x,
            "previous": x.clone(),
            "size": torch.full_like(none, 2 * ball.epsilon),
            "loss": none,  # at the point before
            "best": none.clone(),
            "best_x": x.clone(),
            "best_gradient": torch.zeros_like(x),
            "raised": torch.zeros_like(none),
            "best_then": none.clone(),  # at the last checkpoint
            "reduced": torch.ones_like(none, dtype=torch.bool),
        }

    def advance(self, rows: Rows, ball: Ball, state: State, answer: Answer) -> None:
        """See Method."""
        assert answer.gradient is not None
        k = state["k"]
        better = answer.loss > state["best"]
        state["best"] = torch.where(better, answer.loss, state["best"])
        state["best_x"] = torch.where(spread(better), state["x"], state["best_x"])
        state["best_gradient"] = torch.where(spread(better), answer.gradient, state["best_gradient"])
        state["raised"] = state["raised"] + ((k > 0) & (answer.loss > state["loss"]))
        state["loss"] = answer.loss
        state["best_then"] = torch.where(k == 0, answer.loss, state["best_then"])
        x, gradient = self._checked(state, answer.gradient)
        z = ball.project(x + spread(state["size"]) * steepest(gradient, ball.norm), rows.origin)
        alpha = spread(torch.where(k == 0, 1.0, ALPHA).to(x))
        state["x"] = ball.project(x + alpha * (z - x) + (1 - alpha) * (x - state["previous"]), rows.origin)
        state["previous"] = x

    def _checked(self, state: State, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Where the next step starts, and its gradient; at a checkpoint perhaps the best point, with half the step."""
        length = torch.tensor(self._interval, device=gradient.device)[state["k"]]
        here = length > 0
        if not bool(here.any()):
            return state["x"], gradient
        stuck = ~state["reduced"] & (state["best_then"] >= state["best"])
        halve = here & ((state["raised"] < RHO * length) | stuck)
        state["size"] = torch.where(halve, state["size"] / 2, state["size"])
        state["reduced"] = torch.where(here, halve, state["reduced"])
        state["best_then"] = torch.where(here, state["best"], state["best_then"])
        state["raised"] = torch.where(here, 0.0, state["raised"])
        jump = spread(halve)
        return torch.where(jump, state["best_x"], state["x"]), torch.where(jump, state["best_gradient"], gradient)


def _plain(options: Options) -> Method:
    return AutoPGD(int(options["steps"]), max(1, int(options["restarts"])))


def _targeted(options: Options) -> Method:
    return AutoPGD(int(options["steps"]), max(1, int(options["restarts"])), max(1, int(options["targets"])))


for _attack in (
    Attack(
        "apgd-ce",
        "Auto-PGD on the cross-entropy: step sizes set by itself (Croce and Hein, 2020)",
        engine(_plain),
        losses=("ce",),
        options={"steps": 100, "restarts": 1},
        targeted=True,
    ),
    Attack(
        "apgd-dlr",
        "Auto-PGD on the difference-of-logits ratio (Croce and Hein, 2020)",
        engine(_plain),
        losses=("dlr",),
        options={"steps": 100, "restarts": 1},
        classes=3,
    ),
    Attack(
        "apgd-t",
        "Auto-PGD on the targeted difference-of-logits ratio, for the likeliest wrong classes in turn",
        engine(_targeted),
        losses=("dlr",),
        options={"steps": 100, "restarts": 1, "targets": 9},
        classes=4,
    ),
):
    ATTACKS.register(_attack.name, _attack)
