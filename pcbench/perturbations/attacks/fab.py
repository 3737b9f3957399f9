"""Fast adaptive boundary attack (FAB, Croce and Hein, ICML 2020): the smallest perturbation that changes the answer."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pcbench.perturbations.attacks.attack import ATTACKS, Attack, Options, engine
from pcbench.perturbations.attacks.ball import distance, random_moves, spread
from pcbench.perturbations.attacks.engine import Ball, Method, State
from pcbench.perturbations.attacks.victim import Answer, Rows

ALPHA_MAX = 0.1  # largest pull towards the clean image
ETA = 1.05  # overshoot over the boundary
BETA = 0.9  # step back towards the clean image from a point that fools


def to_hyperplane(x: Tensor, w: Tensor, b: Tensor, norm: str) -> Tensor:
    """The smallest move that brings a point onto a hyperplane without leaving the box [0, 1].

    Minimises ||d|| subject to <w, x + d> = b and 0 <= x + d <= 1. Every coordinate moves to the side that brings
    <w, x> nearer to b; at a level s it has moved by min(s r_i, m_i), with r_i = 1 for L-inf and |w_i| for L2 (the
    conditions of optimality) and m_i its way to the edge of the box. What is gained, sum_i |w_i| min(s r_i, m_i), grows
    piecewise linearly in s, so that sorting m_i / r_i finds the s that is needed. Where the plane does not meet the
    box, every coordinate goes to its edge.

    Args:
        x: (B, n) in [0, 1].
        w: (B, n), normals.
        b: (B,).
        norm: "linf" or "l2".

    Returns:
        (B, n): d.
    """
    tiny = torch.finfo(x.dtype).tiny
    gap = b - (w * x).sum(1)
    direction = w.sign() * gap.sign().unsqueeze(1)
    room = torch.where(direction > 0, 1 - x, torch.where(direction < 0, x, 0.0)).clamp_min(0)
    weight = w.abs()
    rate = torch.ones_like(weight) if norm == "linf" else weight
    level = torch.where(weight > 0, room / rate.clamp_min(tiny), torch.inf)
    ordered, order = level.sort(dim=1)
    gained = (weight * room).gather(1, order)  # by a coordinate that is at its edge
    slope = (weight * rate).gather(1, order)  # of one that is still moving
    before = gained.cumsum(1) - gained
    moving = slope.sum(1, keepdim=True) - slope.cumsum(1) + slope
    reached = before + torch.where(ordered.isfinite(), ordered, 0.0) * moving  # when the i-th gets to its edge
    reached = torch.where(ordered.isfinite(), reached, torch.inf)
    needed = gap.abs().unsqueeze(1)
    place = torch.searchsorted(reached.contiguous(), needed).clamp_max(x.shape[1] - 1)
    rest = needed - before.gather(1, place)
    s = rest / moving.gather(1, place).clamp_min(tiny)
    beyond = needed > (weight * room).sum(1, keepdim=True)
    s = torch.where(beyond, torch.inf, s.clamp_min(0))
    move = torch.where(rate > 0, s * rate, 0.0)
    return direction * torch.minimum(move, room)


class FAB(Method):
    """x <- clip((1 - a) (x + eta d(x)) + a (x_0 + eta d(x_0))), d the way to the linearised boundary, inside the box.

    a = min(|d(x)| / (|d(x)| + |d(x_0)|), 0.1). From a point that fools, the search goes back: x <- 0.1 x_0 + 0.9 x. The
    boundary is that between the label and the target class; without targets, the nearest linearised one, for which the
    gradients of all classes are taken. The nearest point that fools, moved into the ball, is asked
    about at last, so that an image that could not be fooled has an answer too.

    Args:
        steps: updates of x.
        restarts, targets: see Method. Restarts after the first begin at a random point.
    """

    minimal = True

    def __init__(self, steps: int, restarts: int = 1, targets: int = 9) -> None:
        self.updates = steps
        self.steps = 2 * steps + 2  # a point that fools needs another pass, where it went back to
        self.restarts = restarts
        self.targets = targets
        self.untargeted = self.each_class = targets == 0

    def begin(self, rows: Rows, ball: Ball, restarts: Sequence[int], generators: Sequence[torch.Generator]) -> State:
        """See Method."""
        moves = random_moves(rows.origin, ball.norm, generators)
        length = spread(distance(moves, torch.zeros_like(moves), ball.norm).clamp_min(1e-12))
        again = torch.tensor([restart > 0 for restart in restarts], device=moves.device)
        start = rows.origin + 0.5 * ball.epsilon * moves / length
        far = torch.full((len(rows),), torch.inf, device=moves.device)
        return {
            "x": torch.where(spread(again), start, rows.origin),
            "updates": torch.zeros_like(rows.labels),
            "nearest": far,
            "nearest_x": rows.origin.clone(),
            "over": torch.zeros_like(again),
            "closing": torch.zeros_like(again),  # asking about the last point
        }

    def advance(self, rows: Rows, ball: Ball, state: State, answer: Answer) -> None:
        """See Method."""
        if answer.jacobian is not None:
            answer = _nearest(answer, answer.jacobian, rows.labels, ball.norm)
        x, origin = state["x"], rows.origin
        fooled = answer.gap > 0
        far = distance(x, origin, ball.norm)
        nearer = fooled & (far < state["nearest"])
        state["nearest"] = torch.where(nearer, far, state["nearest"])
        state["nearest_x"] = torch.where(spread(nearer), x, state["nearest_x"])
        state["over"] = state["closing"]
        back = origin + BETA * (x - origin)
        onward = self._update(x, origin, answer, ball.norm)
        state["x"] = torch.where(spread(fooled), back, onward)
        state["updates"] = state["updates"] + ~fooled
        closing = (state["updates"] > self.updates) | (state["k"] >= self.steps - 3)
        last = torch.where(spread(state["nearest"].isfinite()), state["nearest_x"], state["x"])
        last = ball.project(last, origin)
        state["x"] = torch.where(spread(closing), last, state["x"])
        state["closing"] = closing

    @staticmethod
    def _update(x: Tensor, origin: Tensor, answer: Answer, norm: str) -> Tensor:
        """One step of the attack. The loss is z_t - z_y, so the boundary is where its linearisation is 0."""
        assert answer.gradient is not None
        w = answer.gradient.flatten(1)
        b = (w * x.flatten(1)).sum(1) - answer.loss
        points = torch.cat([x.flatten(1), origin.flatten(1)])
        moves = to_hyperplane(points, torch.cat([w, w]), torch.cat([b, b]), norm)
        length = moves.abs().amax(1) if norm == "linf" else moves.norm(dim=1)
        own, clean = length.clamp_min(1e-8).chunk(2)
        alpha = spread((own / (own + clean)).clamp(0, ALPHA_MAX))
        here, there = (move.view_as(x) for move in moves.chunk(2))
        return ((1 - alpha) * (x + ETA * here) + alpha * (origin + ETA * there)).clamp(0, 1)


def _nearest(answer: Answer, jacobian: Tensor, labels: Tensor, norm: str) -> Answer:
    """In place of loss and gradient, those of the difference to the class whose linearised boundary is nearest."""
    rows = torch.arange(len(labels), device=labels.device)
    ahead = answer.logits - answer.logits[rows, labels].unsqueeze(1)
    slopes = jacobian - jacobian[rows, labels].unsqueeze(1)
    flat = slopes.flatten(2)
    steepness = flat.abs().sum(2) if norm == "linf" else flat.norm(dim=2)
    away = (ahead.abs() / steepness.clamp_min(1e-12)).scatter(1, labels.unsqueeze(1), torch.inf)
    nearest = away.argmin(1)
    return replace(answer, loss=ahead[rows, nearest], gradient=slopes[rows, nearest])


def _fab(options: Options) -> Method:
    return FAB(int(options["steps"]), max(1, int(options["restarts"])), int(options["targets"]))


for _attack in (
    Attack(
        "fab",
        "fast adaptive boundary, to the nearest of all classes' boundaries (Croce and Hein, 2020)",
        engine(_fab),
        losses=("margin",),
        options={"steps": 100, "restarts": 1, "targets": 0},
    ),
    Attack(
        "fab-t",
        "fast adaptive boundary, towards the likeliest wrong classes in turn (Croce and Hein, 2020)",
        engine(_fab),
        losses=("margin",),
        options={"steps": 100, "restarts": 1, "targets": 9},
    ),
):
    ATTACKS.register(_attack.name, _attack)
