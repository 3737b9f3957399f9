"""The ball around an image that a perturbation must stay in: distances, projections, steps and random starts.

Everything is image by image: row i of a result depends on row i of the arguments alone.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pcbench.errors import UserError


def distance(images: Tensor, others: Tensor, norm: str) -> Tensor:
    """How far images are from others.

    Args:
        images: (B, C, H, W).
        others: the same shape.
        norm: "linf": largest difference; "l2": Euclidean, over all values; "l0": share of the pixels (places) that
            differ in any channel, in [0, 1].

    Returns:
        (B,) float32, computed in float64.
    """
    difference = (images.double() - others.double()).flatten(2)
    if norm == "linf":
        return difference.abs().amax((1, 2)).float()
    if norm == "l2":
        return difference.square().sum((1, 2)).sqrt().float()
    return (difference != 0).any(1).double().mean(1).float()


def project(images: Tensor, origin: Tensor, epsilon: float, norm: str) -> Tensor:
    """The images, moved towards their origin until they are within epsilon of it and in [0, 1].

    Exact to the rounding of the images' dtype. For "l0" nothing can be moved: an image that is too far becomes its
    origin.

    Args:
        images: (B, C, H, W), finite.
        origin: the same shape, in [0, 1].
        epsilon: radius, in the units of `distance`.
        norm: see `distance`.
    """
    if norm == "linf":
        lower, upper = (origin - epsilon).clamp_min(0), (origin + epsilon).clamp_max(1)
        return torch.minimum(torch.maximum(images, lower), upper)
    inside = images.clamp(0, 1)
    far = distance(inside, origin, norm).to(images)
    if norm == "l2":
        scale = (epsilon / far.clamp_min(1e-12)).clamp_max(1).view(-1, 1, 1, 1)
        return (origin + scale * (inside - origin)).clamp(0, 1)
    return torch.where((far > epsilon * (1 + 1e-6)).view(-1, 1, 1, 1), origin, inside)


def spread(values: Tensor) -> Tensor:
    """One number a row, (B,), in a shape that multiplies images (B, C, H, W)."""
    return values.view(-1, 1, 1, 1)


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """The move of length 1 in the norm that raises a linear function fastest; zero where the gradient is.

    Args:
        gradient: (B, C, H, W).
        norm: "linf" (its sign) or "l2" (its direction).
    """
    if norm == "linf":
        return gradient.sign()
    length = gradient.flatten(1).norm(dim=1)
    return gradient / spread(length.clamp_min(torch.finfo(gradient.dtype).tiny))


def random_moves(images: Tensor, norm: str, generators: Sequence[torch.Generator]) -> Tensor:
    """Moves drawn uniformly from the unit ball, one of each generator.

    Args:
        images: (B, C, H, W); gives shape, device and dtype.
        norm: "linf" or "l2" (a direction of the normal distribution, a radius r of density r^(n - 1)).
        generators: B, on the CPU.
    """
    shape, count = images.shape[1:], math.prod(images.shape[1:])
    moves = []
    for generator in generators:
        if norm == "linf":
            moves.append(torch.rand(shape, generator=generator) * 2 - 1)
        else:
            direction = torch.randn(shape, generator=generator)
            moves.append(direction / direction.norm() * torch.rand((), generator=generator) ** (1 / count))
    return torch.stack(moves).to(images)


def check_epsilon(epsilon: float, norm: str, where: str, size: tuple[int, int, int] | None = None) -> None:
    """Refuse a radius that makes no sense.

    Args:
        epsilon: the radius.
        norm: see `distance`.
        where: what it belongs to, for the message.
        size: (C, H, W), where it is known: "l2" has an upper end then.

    Raises:
        UserError: epsilon is negative, not finite, or larger than any distance between two images in [0, 1].
    """
    largest = 1.0 if norm != "l2" else math.inf if size is None else math.sqrt(math.prod(size))
    if math.isfinite(epsilon) and 0 <= epsilon <= largest:
        return
    unit = {"linf": "of a pixel's range", "l2": "for images of this size", "l0": "of the pixels"}[norm]
    end = "0 or more" if math.isinf(largest) else f"from 0 to {largest:g} {unit}"
    raise UserError(f"{where}: epsilon is {epsilon:g}; images are in [0, 1], so {norm} epsilons go {end}")
