"""The loop that runs every attack of our own: who is asked next, what is kept, who is done.

An attack (`Method`) is a state machine over rows: it proposes images, is told what the network said, and proposes
again. Each row has a step counter of its own, so a batch can hold rows at different steps: where robust accuracy is
all that is asked, a row leaves when it is fooled, and the next start of the next image takes its place.

What the engine owns, so that no attack can get it wrong: the ball and [0, 1]; the random numbers (one generator for
each image and restart, so that nothing depends on batch, order or worker); the strongest image found, also of an attack
that fails; when to stop.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pcbench.perturbations.attacks.ball import distance, project, spread
from pcbench.perturbations.attacks.victim import Answer, Rows, Victim
from pcbench.randomness import key, torch_generator

State = dict[str, Tensor]
"""What a method remembers, each tensor with one row for each row of the batch. "x" is what it asks next."""

# A lead over the other classes, as a share of the logits' range, that rounding does not take back: an image may only be
# dropped, and a step forward only be called a success, when the next pass over it says the same in any batch.
CLEAR = 1e-5

# How many starts of an image are under way at once: the first alone, then two, then all others. An image is done when a
# wave has fooled it; one that holds out shall not fill batches with a single row. What is tried does not depend on the
# other images.
WAVES = (1, 2)


@dataclass(frozen=True)
class Ball:
    """A norm ("linf" or "l2") and a radius."""

    norm: str
    epsilon: float

    def project(self, images: Tensor, origin: Tensor) -> Tensor:
        """See `pcbench.perturbations.attacks.ball.project`."""
        return project(images, origin, self.epsilon, self.norm)

    def holds(self, images: Tensor, origin: Tensor) -> Tensor:
        """(B,) bool: within the radius, up to the rounding of images in [0, 1]."""
        return distance(images, origin, self.norm) <= self.epsilon * (1 + 1e-6) + torch.finfo(images.dtype).eps


class Method(ABC):
    """An attack as the engine runs it. It makes no passes, and draws from the generators that `begin` is given alone.

    Attributes:
        steps: how many answers a row takes at most.
        restarts: how often an image is attacked, each time with other random numbers.
        targets: aim at so many of the likeliest wrong classes, one after the other, in each restart.
        untargeted: whether a start without a target comes before those with one.
        gradients: whether it needs them.
        each_class: whether those of every logit, in place of the objective's.
        minimal: whether it looks for the smallest perturbation, so that it asks about images outside of the ball.
    """

    steps: int
    restarts: int = 1
    targets: int = 0
    untargeted: bool = True
    gradients: bool = True
    each_class: bool = False
    minimal: bool = False

    @abstractmethod
    def begin(self, rows: Rows, ball: Ball, restarts: Sequence[int], generators: Sequence[torch.Generator]) -> State:
        """The state of new rows.

        Args:
            rows: B of them.
            ball: that they may move in.
            restarts: of each, from 0.
            generators: of each, on the CPU.
        """

    @abstractmethod
    def advance(self, rows: Rows, ball: Ball, state: State, answer: Answer) -> None:
        """Update the state: `answer` is what the network says about state["x"]; afterwards "x" is the next question.

        state["k"], int64, counts the answers of each row, this one not included. A method that is done with rows before
        `steps` says so in state["over"], bool.
        """


@dataclass
class Found:
    """What an attack found, one row for each image.

    Attributes:
        images: (B, C, H, W) in the ball and in [0, 1]: the strongest found, which is the one with the largest gap.
        gap: (B,) of it, in logits, at the attacked readout; positive when the attack reached its goal.
        first, half: (B,) the largest gap found by the start that found it, at its first question and by half of its
            steps; with `gap`, whether its curve has flattened.
        asked: (B,) int64, passes spent on the image.
    """

    images: Tensor
    gap: Tensor
    first: Tensor
    half: Tensor
    asked: Tensor

    @classmethod
    def nothing(cls, origin: Tensor) -> "Found":
        """Before anything was asked."""
        worst = torch.full((len(origin),), -torch.inf, device=origin.device)
        return cls(origin.clone(), worst, worst.clone(), worst.clone(), torch.zeros_like(worst, dtype=torch.long))

    @property
    def success(self) -> Tensor:
        """(B,) bool: the goal was reached."""
        return self.gap > 0

    def improve(self, index: Tensor, other: "Found") -> None:
        """Take over what another attack found for the images of an index, where it is stronger.

        An image may be in the index several times.
        """
        best: dict[int, tuple[float, int]] = {}
        for row, (image, gap) in enumerate(zip(index.tolist(), other.gap.tolist(), strict=True)):
            if image not in best or gap > best[image][0]:
                best[image] = gap, row
        rows = torch.tensor([row for _, row in best.values()], device=index.device)
        rows = rows[other.gap[rows] > self.gap[index[rows]]]
        for name in ("images", "gap", "first", "half"):
            getattr(self, name)[index[rows]] = getattr(other, name)[rows]
        self.asked.index_add_(0, index, other.asked)


@dataclass
class Plan:
    """What an attack is run on, and how far it goes.

    Attributes:
        victim: the network to fool.
        origin: (B, C, H, W) in [0, 1].
        labels: (B,) int64.
        goals: (B,) int64, see Rows.
        ids: B image ids.
        seed: of the run.
        ball: that images must stay in.
        stop: whether an image is done when it is fooled. False: every start goes all its steps, and the strongest
            image is kept; for images that are judged at other readouts too.
        width: rows in a batch.
        purpose: what else the random numbers depend on (the attack's name).
    """

    victim: Victim
    origin: Tensor
    labels: Tensor
    goals: Tensor
    ids: Sequence[str]
    seed: int
    ball: Ball
    stop: bool
    width: int = 64
    purpose: str = ""

    def of(self, index: Tensor) -> "Plan":
        """The same for some of the images."""
        chosen = index.tolist()
        return replace(
            self,
            origin=self.origin[index],
            labels=self.labels[index],
            goals=self.goals[index],
            ids=[self.ids[i] for i in chosen],
        )


def run(method: Method, plan: Plan) -> Found:
    """Attack B images.

    The order in which images are taken decides nothing: image i's result depends on its own random numbers and passes,
    up to the rounding that comes with the shape of a batch.
    """
    found = Found.nothing(plan.origin)
    if plan.ball.epsilon == 0:
        return found
    ranked = _ranked(method, plan)
    starts = _starts(method, ranked)
    waiting: deque[tuple[int, int]] = deque()
    progress = [_Progress() for _ in range(len(plan.origin))]
    batch = _Batch(method, plan, found)
    for image, own in enumerate(progress):
        waiting.extend((image, start) for start in own.next_wave(len(starts)))
    while waiting or len(batch):
        arriving: list[tuple[int, int]] = []
        while waiting and len(batch) + len(arriving) < plan.width:
            arriving.append(waiting.popleft())
        if arriving:
            batch.admit(arriving, starts, ranked)
        for image, fooled in batch.turn():
            own = progress[image]
            if own.wave_is_over(fooled) and not (plan.stop and own.fooled):
                waiting.extend((image, start) for start in own.next_wave(len(starts)))
    found.images = plan.ball.project(found.images, plan.origin)
    return found


@dataclass
class _Progress:
    """How far an image is through its starts."""

    started: int = 0
    waves: int = 0
    under_way: int = 0
    fooled: bool = False

    def next_wave(self, starts: int) -> range:
        """The starts that come next; none when all were tried."""
        size = WAVES[self.waves] if self.waves < len(WAVES) else starts
        wave = range(self.started, min(self.started + size, starts))
        self.started, self.under_way, self.waves = wave.stop, len(wave), self.waves + 1
        return wave

    def wave_is_over(self, fooled: bool) -> bool:
        """Take note of the end of a start."""
        self.under_way -= 1
        self.fooled |= fooled
        return self.under_way == 0


def _starts(method: Method, ranked: Tensor | None) -> list[tuple[int, int]]:
    """(restart, rank of the target; -1 for none) of every start, in the order in which an image goes through them."""
    count = 0 if ranked is None else ranked.shape[1]
    ranks = ([-1] if method.untargeted or count == 0 else []) + list(range(count))
    return [(restart, rank) for restart in range(method.restarts) for rank in ranks]


def _ranked(method: Method, plan: Plan) -> Tensor | None:
    """(B, targets): the likeliest wrong classes of the clean images at the readout; None when there is a goal."""
    if method.targets == 0 or bool((plan.goals >= 0).any()):
        return None
    none = torch.full_like(plan.labels, -1)
    parts = []
    every = torch.arange(len(plan.origin), device=plan.labels.device)
    for index in torch.split(every, plan.width):
        keys = [key(plan.seed, plan.ids[i], "ranking") for i in index.tolist()]
        rows = Rows(plan.origin[index], plan.labels[index], none[index], none[index], keys)
        logits = plan.victim.ask(rows.origin, rows, False).logits
        logits = logits.scatter(1, rows.labels.unsqueeze(1), -torch.inf)
        parts.append(logits.topk(min(method.targets, logits.shape[1] - 1), dim=1).indices)
    return torch.cat(parts)


@dataclass
class _Batch:
    """The rows that are under way."""

    method: Method
    plan: Plan
    found: Found
    rows: Rows | None = None
    state: State = field(default_factory=dict)
    places: list[tuple[int, int]] = field(default_factory=list)  # (image, start) of each row

    def __len__(self) -> int:
        return len(self.places)

    def admit(
        self, arriving: Sequence[tuple[int, int]], starts: Sequence[tuple[int, int]], ranked: Tensor | None
    ) -> None:
        """New rows, behind those that are there."""
        plan = self.plan
        index = torch.tensor([image for image, _ in arriving], device=plan.labels.device)
        numbers = [starts[start] for _, start in arriving]
        targets = torch.full_like(plan.labels[index], -1)
        for row, (image, (_, rank)) in enumerate(zip(index.tolist(), numbers, strict=True)):
            if rank >= 0 and ranked is not None:
                targets[row] = ranked[image, rank]
        goals = plan.goals[index]
        targets = torch.where(goals >= 0, goals, targets)
        keyed = [(plan.ids[image], plan.purpose, start) for image, start in arriving]
        rows = Rows(plan.origin[index], plan.labels[index], targets, goals, [key(plan.seed, *parts) for parts in keyed])
        generators = [torch_generator(plan.seed, *parts, "begin") for parts in keyed]
        state = self.method.begin(rows, plan.ball, [restart for restart, _ in numbers], generators)
        nothing = torch.full((len(rows),), -torch.inf, device=plan.labels.device)
        state |= {"k": torch.zeros_like(rows.labels), "top": nothing, "first": nothing.clone(), "half": nothing.clone()}
        state |= {"shown": rows.origin.clone()}
        self.rows = rows if self.rows is None else self.rows.join(rows)
        before = self.state
        self.state = {name: torch.cat([before[name], value]) if before else value for name, value in state.items()}
        self.places += arriving

    def turn(self) -> list[tuple[int, bool]]:
        """Ask once for every row, keep what is worth it, let rows go: of each, its image, and whether it was fooled."""
        assert self.rows is not None
        method, plan, rows, state = self.method, self.plan, self.rows, self.state
        inside = state["x"].clamp(0, 1) if method.minimal else plan.ball.project(state["x"], rows.origin)
        state["x"] = inside
        last = state["k"] + 1 >= method.steps
        asked = rows
        if plan.victim.aim.samples:
            numbers = state["k"].tolist()
            asked = replace(rows, keys=[key(own, k) for own, k in zip(rows.keys, numbers, strict=True)])
        wanted = method.gradients and not bool(last.all())
        answer = plan.victim.ask(inside, asked, wanted, each_class=method.each_class)
        self._keep(inside, answer)
        range_ = answer.logits.amax(1) - answer.logits.amin(1)
        fooled = state["top"] > CLEAR * range_
        over = last
        if wanted or not method.gradients:
            method.advance(rows, plan.ball, state, answer)
            over = over | state["over"] if "over" in state else over
        state["k"] = state["k"] + 1
        done = over | fooled if plan.stop else over
        return self._release(done, fooled)

    def _keep(self, images: Tensor, answer: Answer) -> None:
        """The strongest image of each row so far. A clean image is none that was found."""
        plan, state = self.plan, self.state
        assert self.rows is not None
        moved = (images != self.rows.origin).flatten(1).any(1)
        if self.method.minimal:
            moved &= plan.ball.holds(images, self.rows.origin)
        better = moved & (answer.gap > state["top"])
        state["top"] = torch.where(better, answer.gap, state["top"])
        state["shown"] = torch.where(spread(better), images, state["shown"])
        state["first"] = torch.where(state["k"] == 0, answer.gap, state["first"])
        state["half"] = torch.where(state["k"] <= (self.method.steps - 1) // 2, state["top"], state["half"])

    def _release(self, done: Tensor, fooled: Tensor) -> list[tuple[int, bool]]:
        if not bool(done.any()):
            return []
        assert self.rows is not None
        state = self.state
        leaving = done.nonzero().squeeze(1)
        images = torch.tensor([self.places[row][0] for row in leaving.tolist()], device=leaving.device)
        self.found.improve(
            images,
            Found(
                state["shown"][leaving],
                state["top"][leaving],
                state["first"][leaving],
                state["half"][leaving],
                state["k"][leaving],
            ),
        )
        gone = list(zip(images.tolist(), fooled[leaving].tolist(), strict=True))
        staying = (~done).nonzero().squeeze(1)
        self.places = [self.places[row] for row in staying.tolist()]
        self.rows = self.rows.take(staying) if self.places else None
        self.state = {name: value[staying] for name, value in state.items()} if self.places else {}
        return gone
