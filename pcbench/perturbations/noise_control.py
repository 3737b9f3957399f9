"""The kind `noise-control`: random noise of the norm of an attack, the least that an attack has to beat."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from pcbench.errors import UserError
from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier
from pcbench.perturbations.attack import parse_epsilon
from pcbench.perturbations.attacks.norms import check_epsilon, distance, project
from pcbench.perturbations.base import KINDS, Context, Perturbation, Perturbed
from pcbench.randomness import torch_generator
from pcbench.tables import Table

Shape = Literal["uniform", "gaussian", "salt-and-pepper"]


class NoiseControlTable(Table):
    """`kind = "noise-control"`: one condition for each kind of noise and epsilon.

    Attributes:
        noises: which.
        norm: in which the noise is measured.
        epsilons: its size, numbers or fractions such as "8/255".
    """

    noises: Annotated[list[Shape], Field(min_length=1)]
    norm: Literal["linf", "l2", "l0"] = "linf"
    epsilons: Annotated[list[float | str], Field(min_length=1)]


class NoiseControl(Perturbation):
    """Noise scaled so that, after clipping to [0, 1], its norm is epsilon.

    - "uniform": uniform in [-1, 1]; "gaussian": normal, cut off at three standard deviations; either scaled.
    - "salt-and-pepper": for "linf" every value goes up or down by epsilon, the corners of the ball; for "l2" pixels
      become black or white, in random order, as many as the norm allows; for "l0" a share epsilon of the pixels does.

    Column: "distance". The noise follows from (seed, image id, noise, norm): sizes are the same pattern, scaled.
    """

    @classmethod
    def conditions(cls, suite: str, table: Mapping[str, object]) -> list[Condition]:
        """One condition for each noise and epsilon, "noise-uniform-linf" and so on."""
        read = NoiseControlTable.read(suite, table)
        where = f"suite {suite}, noise control"
        found = []
        for noise in read.noises:
            if read.norm == "l0" and noise != "salt-and-pepper":
                raise UserError(f"{where}: {noise} noise changes every pixel; with norm l0 there is salt-and-pepper")
            for text in read.epsilons:
                epsilon = parse_epsilon(text, where)
                check_epsilon(epsilon, read.norm, where)
                params = {"noise": noise, "norm": read.norm}
                found.append(Condition("noise-control", f"noise-{noise}-{read.norm}", "noise", epsilon, params))
        return found

    @classmethod
    def for_model(cls, condition: Condition, model: TemporalClassifier, timesteps: int) -> list[Condition]:
        """The condition itself. Raises UserError: no two images of the model's size are so far apart."""
        where = f"{condition.perturbation} on {model.name or 'the model'}"
        check_epsilon(condition.severity, str(condition.params["norm"]), where, model.input_size)
        return [condition]

    def on_float(self, images: Tensor, context: Context) -> Perturbed:
        """Add the noise."""
        noise, norm = str(self.condition.params["noise"]), str(self.condition.params["norm"])
        origin = images.clamp(0, 1)
        rows = [
            add_noise(image, noise, norm, self.condition.severity, torch_generator(context.seed, name, noise, norm))
            for image, name in zip(origin.cpu(), context.ids, strict=True)
        ]
        result = torch.stack(rows).to(images)
        return Perturbed(result, {"distance": distance(result, origin, norm)})


def add_noise(image: Tensor, noise: str, norm: str, epsilon: float, generator: torch.Generator) -> Tensor:
    """One image with noise whose norm, after clipping, is epsilon (for "l0", and pixels in "l2", the largest below).

    Args:
        image: (C, H, W) in [0, 1], on the CPU.
        noise: "uniform", "gaussian" or "salt-and-pepper".
        norm: "linf", "l2" or "l0".
        epsilon: size of the noise.
        generator: where its random numbers come from.
    """
    if norm == "l0" or (norm == "l2" and noise == "salt-and-pepper"):
        return _pixels(image, norm, epsilon, generator)
    if noise == "uniform":
        move = torch.rand(image.shape, generator=generator) * 2 - 1
    elif noise == "gaussian":
        move = torch.randn(image.shape, generator=generator).clamp(-3, 3) / 3
    else:
        move = torch.randint(2, image.shape, generator=generator) * 2.0 - 1
    low, high = 0.0, 2 * epsilon / _size(move, norm) + 1
    while high < 1e6 and _size((image + high * move).clamp(0, 1) - image, norm) < epsilon:
        high *= 4  # clipping takes some of the noise away: scale it further
    for _ in range(40):
        middle = (low + high) / 2
        inside = _size((image + middle * move).clamp(0, 1) - image, norm) <= epsilon
        low, high = (middle, high) if inside else (low, middle)
    found = (image + low * move).clamp(0, 1)
    return project(found[None], image[None], epsilon, norm)[0]


def _size(move: Tensor, norm: str) -> float:
    return float(move.abs().max() if norm == "linf" else move.double().square().sum().sqrt())


def _pixels(image: Tensor, norm: str, epsilon: float, generator: torch.Generator) -> Tensor:
    """Pixels set to black or white, in random order, as many as epsilon allows."""
    count = math.prod(image.shape[1:])
    order = torch.randperm(count, generator=generator)
    value = torch.randint(2, (count,), generator=generator).to(image.dtype)
    if norm == "l0":
        kept = int(epsilon * count)
    else:
        cost = (image.flatten(1)[:, order] - value).double().square().sum(0).cumsum(0)
        kept = int((cost <= epsilon**2).sum())
    result = image.clone().flatten(1)
    result[:, order[:kept]] = value[:kept]
    return result.view_as(image)


KINDS.register("noise-control", NoiseControl)
