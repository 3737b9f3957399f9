"""Small networks for tests of the harness, found by name: `tiny_models:FUNCTION`."""

import os
import signal
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pcbench.models.base import Preprocessing, TemporalClassifier

PREPROCESSING = Preprocessing((32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), resize=32)


class Tiny(TemporalClassifier):
    """A linear layer whose logits drift with time, so that predictions change over timesteps."""

    label_space = "imagenet"

    def __init__(self, classes: int = 1000, timesteps: int = 2) -> None:
        super().__init__(classes, PREPROCESSING, timesteps)
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Parameter(torch.randn(classes, 48, generator=generator))
        self.drift = nn.Parameter(torch.randn(classes, 48, generator=generator))
        self.calls: list[tuple[int, int]] = []
        self.provenance = {"kind": "tiny"}

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        self.calls.append((len(x), timesteps))
        seen = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return torch.stack([seen @ (self.first + t * self.drift).T for t in range(timesteps + 1)])


class Told(Tiny):
    """Says what it represents: what it sees, coarsely, drifting with time."""

    has_representations = True

    def representations(self, images: Tensor, timesteps: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
        x = self.normalise(images)
        seen = nn.functional.adaptive_avg_pool2d(x, 4)
        for t, logits in enumerate(self.rollout(x, timesteps)):
            yield logits, [seen, seen.pow(2) + t * seen]


class Still(Tiny):
    has_dynamics = False

    def __init__(self) -> None:
        super().__init__(timesteps=0)

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        return super().rollout(x, 0).expand(timesteps + 1, -1, -1)


class Explodes(Tiny):
    """Not finite for bright images at t = 1."""

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        logits = super().rollout(x, timesteps).clone()
        if x.abs().max() > 3:  # only strong noise goes there
            logits[1:, 0] = float("nan")
        return logits


class Greedy(Tiny):
    """Has memory for three images."""

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        if len(x) > 3:
            raise torch.OutOfMemoryError("no memory")
        return super().rollout(x, timesteps)


class Slow(Tiny):
    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        time.sleep(0.05)
        return super().rollout(x, timesteps)


class Deadly(Tiny):
    """Takes its process with it, when it is asked about more than the one image whose cost is counted."""

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        if len(x) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().rollout(x, timesteps)


class Stuck(Greedy):
    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        raise torch.OutOfMemoryError("no memory")


def large() -> Tiny:
    """Takes images of 512 x 512 pixels, three quarters of a megabyte each."""
    model = Tiny(timesteps=0)
    model.preprocessing = Preprocessing((512, 512), *[(0.5, 0.5, 0.5)] * 2, resize=512)
    return model


def tiny() -> Tiny:
    return Tiny()


MADE: list[Tiny] = []


def counted() -> Tiny:
    """A network that can be asked afterwards how it was called."""
    MADE.append(Tiny())
    return MADE[-1]


def told() -> Told:
    return Told()


def still() -> Still:
    return Still()


def explodes() -> Explodes:
    return Explodes()


def greedy() -> Greedy:
    return Greedy()


def slow() -> Slow:
    return Slow()


def deadly() -> Deadly:
    return Deadly()


def stuck() -> Stuck:
    return Stuck()
