"""The kind `noise-control`: random noise of the norm of an attack, the least that an attack has to beat."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from pcbench.errors import UserError
from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier
from pcbench.perturbations.attack import parse_epsilon
from pcbench.perturbations.attacks.ball import check_epsilon, distance, project, spread
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
        """One condition for each noise and epsilon; params: noise, norm."""
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
                found.append(Condition("noise-control", f"noise-{noise}-{read.norm}", "noise-control", epsilon, params))
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
        generators = [torch_generator(context.seed, name, noise, norm) for name in context.ids]
        result = add_noise(origin, noise, norm, self.condition.severity, generators)
        return Perturbed(result.to(images), {"distance": distance(result, origin, norm)})


def add_noise(images: Tensor, noise: str, norm: str, epsilon: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Images with noise whose norm, after clipping, is epsilon (for "l0", and pixels in "l2", the largest below).

    Args:
        images: (B, C, H, W) in [0, 1].
        noise: "uniform", "gaussian" or "salt-and-pepper".
        norm: "linf", "l2" or "l0".
        epsilon: size of the noise.
        generators: B, on the CPU, where each image's random numbers come from.
    """
    if norm == "l0" or (norm == "l2" and noise == "salt-and-pepper"):
        return torch.stack([_pixels(*pair, norm, epsilon) for pair in zip(images, generators, strict=True)])
    shape = images.shape[1:]
    if noise == "uniform":
        moves = [torch.rand(shape, generator=generator) * 2 - 1 for generator in generators]
    elif noise == "gaussian":
        moves = [torch.randn(shape, generator=generator).clamp(-3, 3) / 3 for generator in generators]
    else:
        moves = [torch.randint(2, shape, generator=generator) * 2.0 - 1 for generator in generators]
    move = torch.stack(moves).to(images)

    def moved(scale: Tensor) -> Tensor:
        return (images + spread(scale).to(images) * move).clamp(0, 1)

    low = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    high = 2 * epsilon / distance(move, torch.zeros_like(move), norm).double() + 1
    for _ in range(10):  # clipping takes some of the noise away: scale it further
        short = distance(moved(high), images, norm) < epsilon
        if not bool(short.any()):
            break
        high = torch.where(short, 4 * high, high)
    for _ in range(40):
        middle = (low + high) / 2
        inside = distance(moved(middle), images, norm) <= epsilon
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    return project(moved(low), images, epsilon, norm)


def _pixels(image: Tensor, generator: torch.Generator, norm: str, epsilon: float) -> Tensor:
    """Pixels set to black or white, in random order, as many as epsilon allows."""
    count = math.prod(image.shape[1:])
    order = torch.randperm(count, generator=generator).to(image.device)
    value = torch.randint(2, (count,), generator=generator).to(image)
    if norm == "l0":
        kept = int(epsilon * count)
    else:
        cost = (image.flatten(1)[:, order] - value).double().square().sum(0).cumsum(0)
        kept = int((cost <= epsilon**2).sum())
    result = image.clone().flatten(1)
    result[:, order[:kept]] = value[:kept]
    return result.view_as(image)


KINDS.register("noise-control", NoiseControl)
