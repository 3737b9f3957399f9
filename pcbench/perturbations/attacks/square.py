"""Square (Andriushchenko et al., ECCV 2020): random search with squares; it knows the logits alone."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from pcbench.perturbations.attacks.attack import ATTACKS, Attack, Options, engine
from pcbench.perturbations.attacks.ball import spread
from pcbench.perturbations.attacks.engine import Ball, Method, State
from pcbench.perturbations.attacks.victim import Answer, Rows

# The share of the pixels in a square is halved after so many of 10,000 queries.
HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_DRAWS = 5  # two places of a square, and its orientation


class Square(Method):
    """Random search: change a square, keep the change when the margin grew.

    L-inf: start from vertical stripes; a square is set to +epsilon or -epsilon in each channel. L2: start from a grid
    of tiles of opposite halves; a square takes such a tile over, with the budget of a second square that is emptied.
    With other places of the square than its own, no row knows of any other.

    Args:
        queries: after the start.
        restarts: see Method.
        share: of the pixels in the first squares (p_init).
        rescaled: halve that share as if the queries were 10,000; else after as many queries as were published.
    """

    gradients = False

    def __init__(self, queries: int, restarts: int = 1, share: float = 0.8, rescaled: bool = False) -> None:
        self.steps = queries + 1
        self.restarts = restarts
        self.share = share
        self.rescaled = rescaled

    def begin(self, rows: Rows, ball: Ball, restarts: Sequence[int], generators: Sequence[torch.Generator]) -> State:
        """See Method."""
        channels, _, width = rows.origin.shape[1:]
        tables, starts = [], []
        for generator in generators:
            tables.append(torch.rand(self.steps, _DRAWS + channels, generator=generator))
            if ball.norm == "linf":
                starts.append(torch.rand(channels, 1, width, generator=generator).sub(0.5).sign())
            else:
                starts.append(_tiles(rows.origin.shape[1:], generator))
        start = torch.stack(starts).to(rows.origin)
        if ball.norm == "l2":
            start = start / spread(start.flatten(1).norm(dim=1))
        x = ball.project(rows.origin + ball.epsilon * start, rows.origin)
        none = torch.full((len(rows),), -torch.inf, device=x.device)
        return {"x": x, "best_x": x.clone(), "best": none, "table": torch.stack(tables).to(x)}

    def advance(self, rows: Rows, ball: Ball, state: State, answer: Answer) -> None:
        """See Method."""
        better = answer.loss > state["best"]
        state["best"] = torch.where(better, answer.loss, state["best"])
        best = state["best_x"] = torch.where(spread(better), state["x"], state["best_x"])
        drawn = state["table"][torch.arange(len(rows), device=best.device), state["k"].clamp_max(self.steps - 1)]
        change = self._change_linf if ball.norm == "linf" else self._change_l2
        state["x"] = change(rows.origin, ball, best, drawn, self._sides(state["k"], best, ball.norm))

    def _sides(self, k: Tensor, images: Tensor, norm: str) -> Tensor:
        """(B,) int64: the side of the square that each row tries after its k-th answer."""
        height, width = images.shape[2:]
        place = (k * (10_000 / max(1, self.steps - 1))).long() if self.rescaled else k
        halvings = (place.unsqueeze(1) > torch.tensor(HALVED, device=k.device)).sum(1)
        side = (self.share * 0.5**halvings * height * width).sqrt().round().long()
        if norm == "l2":  # its tile has a middle
            side = side.clamp_min(3)
            side = side + (side % 2 == 0)
        return side.clamp(1, min(height, width))

    @staticmethod
    def _change_linf(origin: Tensor, ball: Ball, best: Tensor, drawn: Tensor, side: Tensor) -> Tensor:
        height, width = origin.shape[2:]
        inside = _window(drawn[:, 0], side, height)[:, None, :, None] & _window(drawn[:, 1], side, width)[:, None, None]
        signs = (drawn[:, _DRAWS:] - 0.5).sign()[:, :, None, None]
        return torch.where(inside, origin + ball.epsilon * signs, best)

    @staticmethod
    def _change_l2(origin: Tensor, ball: Ball, best: Tensor, drawn: Tensor, side: Tensor) -> Tensor:
        delta = best - origin
        free = (ball.epsilon**2 - delta.square().sum((1, 2, 3))).clamp_min(0) / origin.shape[1]
        for size in torch.unique(side).tolist():  # rows whose squares are equally large, together
            rows = (side == size).nonzero().squeeze(1)
            delta[rows] = _exchanged(delta[rows], drawn[rows], free[rows], size)
        length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
        return origin + delta * spread(ball.epsilon / length)


def _corner(drawn: Tensor, side: Tensor | int, length: int) -> Tensor:
    """Where an interval of a length begins, uniform over the places where it fits."""
    last = length - side
    return (drawn * (last + 1)).long().clamp_max(last)


def _window(drawn: Tensor, side: Tensor, length: int) -> Tensor:
    """(B, length) bool: a random interval of `side` places."""
    first = _corner(drawn, side, length).unsqueeze(1)
    place = torch.arange(length, device=drawn.device)
    return (place >= first) & (place < first + side.unsqueeze(1))


def _exchanged(delta: Tensor, drawn: Tensor, free: Tensor, side: int) -> Tensor:
    """One square gets a tile besides what it has, from its own, a second square's and the free budget; that is emptied.

    Args:
        delta: (B, C, H, W).
        drawn: (B, 5 + C) in [0, 1].
        free: (B,), squared length that each channel may grow by.
        side: of the squares.
    """
    count, channels, height, width = delta.shape
    delta = delta.clone()
    rows = torch.arange(count, device=delta.device)[:, None, None, None]
    planes = torch.arange(channels, device=delta.device)[None, :, None, None]
    steps = torch.arange(side, device=delta.device)

    def window(row: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        down = _corner(row, side, height)[:, None] + steps
        right = _corner(column, side, width)[:, None] + steps
        return rows, planes, down[:, None, :, None], right[:, None, None, :]

    here, there = window(drawn[:, 0], drawn[:, 1]), window(drawn[:, 2], drawn[:, 3])
    old = delta[here]
    length = old.square().sum((2, 3), keepdim=True)
    both = delta.square().sum((2, 3), keepdim=True)
    delta[there] = 0
    kept = delta.clone()
    kept[here] = 0
    budget = both - kept.square().sum((2, 3), keepdim=True) + free[:, None, None, None]
    tile = _tile(side).to(delta)
    turned = torch.where((drawn[:, 4] > 0.5)[:, None, None], tile, tile.T).unsqueeze(1)
    signs = (drawn[:, _DRAWS:] - 0.5).sign()[:, :, None, None]
    new = turned * signs + old / (length.sqrt() + 1e-12)
    new = new / (new.square().sum((2, 3), keepdim=True).sqrt() + 1e-12)
    delta[here] = new * budget.clamp_min(0).sqrt()
    return delta


@cache
def _tile(side: int) -> Tensor:
    """(side, side) of length 1: the upper half a hill, the lower half a hole, from nested rectangles of 1 / n^2."""
    top = side // 2
    tile = torch.cat([_hill(top, side), -_hill(side - top, side)])
    found: Tensor = tile / tile.norm()
    return found


def _hill(height: int, width: int) -> Tensor:
    """Nested rectangles around the middle, the n-th adding 1 / n^2; of length 1."""
    hill = torch.zeros(height, width)
    row, column = height // 2, width // 2
    for n in range(max(row, column) + 1):
        hill[max(row - n, 0) : row + n + 1, max(column - n, 0) : column + n + 1] += 1 / (n + 1) ** 2
    found: Tensor = hill / hill.norm()
    return found


def _tiles(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """(C, H, W): a grid of five by five tiles, each channel's sign and each tile's orientation drawn."""
    channels, height, width = shape
    side = max(1, min(height, width) // 5)
    image = torch.zeros(channels, height, width)
    for down in range((height - side * 5) // 2, height - side + 1, side):
        for right in range((width - side * 5) // 2, width - side + 1, side):
            tile = _tile(side) if side > 1 else torch.ones(1, 1)
            turned = tile.T if float(torch.rand((), generator=generator)) > 0.5 else tile
            signs = torch.rand(channels, 1, 1, generator=generator).sub(0.5).sign()
            image[:, down : down + side, right : right + side] += turned * signs
    return image


def _square(options: Options) -> Method:
    return Square(int(options["queries"]), max(1, int(options["restarts"])), rescaled=bool(options["rescaled"]))


ATTACKS.register(
    "square",
    Attack(
        "square",
        "random search with squares, knows the logits alone (Andriushchenko et al., 2020)",
        engine(_square),
        losses=("margin", "ce"),
        options={"queries": 5000, "restarts": 1, "rescaled": False},
        knowledge="gradient-free",
        targeted=True,
    ),
)
