"""Distances between images, and the ball that a perturbation must stay in."""

import math

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


def overshoot(images: Tensor, origin: Tensor) -> Tensor:
    """The images, a hundredth further from their origin.

    Attacks that look for the smallest perturbation end on the boundary between two classes, where rounding decides the
    answer, and so the size of the batch.
    """
    return origin + 1.01 * (images - origin)


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
