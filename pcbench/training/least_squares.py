"""Predictors that are linear in their parameters, solved exactly: one pass over the images gives the least squares.

A predictor that ends in a transposed convolution of stride 1, behind layers without parameters (upsampling), is a
linear map of a small window of its input, so the mean squared error has one minimum, given by the covariances of
windows and targets. A ridge penalty, chosen per predictor on held-out images, keeps deep predictors, whose windows
have thousands of values, from fitting noise.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcbench.errors import UserError
from pcbench.randomness import torch_generator

RIDGES = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # times the mean variance of a window's values
PLACES = 4096  # per image at most, drawn at random: neighbouring windows say much the same


@dataclass(frozen=True)
class Linear:
    """A predictor as fixed layers and one transposed convolution."""

    fixed: nn.Sequential
    last: nn.ConvTranspose2d


def linear_parts(predictor: nn.Module, number: int) -> Linear:
    """The parts of a predictor. Raises UserError, with the PCoder's number, when it is not of that form."""
    layers = list(predictor) if isinstance(predictor, nn.Sequential) else [predictor]
    last = layers[-1]
    if not isinstance(last, nn.ConvTranspose2d) or last.stride != (1, 1) or last.dilation != (1, 1) or last.groups != 1:
        raise UserError(
            f"PCoder {number}: its predictor does not end in a plain transposed convolution of stride 1, so least "
            "squares cannot begin with it; use --start random"
        )
    for layer in layers[:-1]:
        if any(True for _ in layer.parameters()):
            raise UserError(f"PCoder {number}: its predictor has parameters in two layers; use --start random")
    return Linear(nn.Sequential(*layers[:-1]), last)


class Moments:
    """Sums over windows and targets from which the least squares follow, in float64."""

    def __init__(self, parts: Linear) -> None:
        self.parts = parts
        weight = parts.last.weight
        inputs = weight.shape[0] * weight.shape[2] * weight.shape[3]
        self.count = 0.0
        self.sums = torch.zeros(inputs + weight.shape[1], dtype=torch.float64)
        self.products = torch.zeros(inputs, inputs + weight.shape[1], dtype=torch.float64)
        self.squares = 0.0

    def add(self, e: Tensor, target: Tensor, ids: Sequence[str]) -> None:
        """Add images: e (B, C, H, W), the layer below (B, O, H', W'), and their ids, which choose the places."""
        kernel, padding = self.parts.last.kernel_size, self.parts.last.padding
        assert not isinstance(padding, str)
        around = [k - 1 - p for k, p in zip(kernel, padding, strict=True)]
        for one, below, name in zip(self.parts.fixed(e).float(), target.float(), ids, strict=True):
            windows = functional.unfold(one[None], kernel, padding=tuple(around))[0]
            values = below.flatten(1)
            if windows.shape[1] != values.shape[1]:
                raise UserError("a predictor changes size in a way that least squares cannot begin with")
            if values.shape[1] > PLACES:
                chosen = torch.randperm(values.shape[1], generator=torch_generator("places", name))[:PLACES]
                windows, values = windows[:, chosen], values[:, chosen]
            both = torch.cat([windows, values])
            self.count += values.shape[1]
            self.sums += both.sum(1).double()
            self.products += (windows @ both.T).double()
            self.squares += float(values.double().square().sum())

    def covariances(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Means of windows and of targets, covariance of windows, and of windows with targets."""
        inputs = len(self.products)
        means = self.sums / self.count
        products = self.products / self.count - means[:inputs, None] * means
        return means[:inputs], means[inputs:], products[:, :inputs], products[:, inputs:]

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Squared error per place of predicting targets as windows @ weight + bias, from the sums alone."""
        inputs = len(self.products)
        means = self.sums / self.count
        gram, cross = self.products[:, :inputs] / self.count, self.products[:, inputs:] / self.count
        predicted = (weight * (gram @ weight)).sum() + 2 * (means[:inputs] @ weight) @ bias + bias @ bias
        met = (weight * cross).sum() + means[inputs:] @ bias
        return float(predicted - 2 * met) + self.squares / self.count


def solve(train: Moments, held_out: Moments | None) -> tuple[float, float]:
    """Set a predictor's parameters to the least squares.

    Returns:
        The ridge that was chosen (one of RIDGES), and the mean squared error on the training images.
    """
    mean, target_mean, covariance, cross = train.covariances()
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(0)
    rotated = vectors.T @ cross
    floor = float(values[-1]) * 1e-12
    best: tuple[float, float, Tensor, Tensor] | None = None
    for ridge in RIDGES if held_out is not None else RIDGES[1:2]:
        weight = vectors @ (rotated / (values + ridge * float(values.mean()) + floor)[:, None])
        bias = target_mean - mean @ weight
        error = 0.0 if held_out is None else held_out.error(weight, bias)
        if best is None or error < best[0]:
            best = (error, ridge, weight, bias)
    assert best is not None
    last = train.parts.last
    inputs, outputs, height, width = last.weight.shape
    kernel = best[2].reshape(inputs, height, width, outputs).permute(0, 3, 1, 2).flip(2, 3)
    with torch.no_grad():
        last.weight.copy_(kernel)
        if last.bias is not None:
            last.bias.copy_(best[3])
    return best[1], train.error(best[2], best[3]) / outputs


def accumulate(parts: Sequence[Linear], batches: Iterable[tuple[list[Tensor], list[str]]]) -> list[Moments]:
    """Moments of every predictor over batches of (levels e_0 .. e_N, ids)."""
    moments = [Moments(part) for part in parts]
    with torch.no_grad():
        for levels, ids in batches:
            for n, moment in enumerate(moments):
                moment.add(levels[n + 1], levels[n], ids)
    return moments
