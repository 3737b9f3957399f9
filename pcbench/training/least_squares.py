"""Predictors that are linear in their parameters, solved exactly.

A predictor that ends in one convolution (transposed, of any stride, or plain), behind layers without parameters and
perhaps before a ReLU, is linear in the kernel and bias, so the mean squared error before the ReLU has one minimum. It
follows from sums over windows and targets (`moments`), which are gathered in one pass over any number of images. A
ridge penalty keeps deep predictors, whose windows have thousands of values, from fitting noise; it is chosen on images
that are held out, from the errors of a few outputs.

The kernel's taps of different output phases are separate regressions, with one bias in common:

    (G_f + ridge) w_f + g_f b = c_f  for each phase f,      sum_f g_f . w_f + n b = sum of targets

G_f, c_f, g_f: sums over positions of windows by windows, windows by targets, windows. So w_f = x_f - b z_f with
(G_f + ridge) x_f = c_f and (G_f + ridge) z_f = g_f.

Refinement for a ReLU. Where a target is 0, any prediction below 0 is right once the ReLU has passed it; the solution
above still pays for it. The loss that does not, sum over t > 0 of (p - t)^2 plus sum over t = 0 of max(p, 0)^2, is
convex, an upper bound of the ReLU's, and minimised by solving again with the prediction itself for a target wherever
it is below 0 and the target is 0 (each such step majorises the loss), with Nesterov's momentum from step to step. The
matrices stay the same; each step takes one more pass over the images.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pcbench.errors import UserError
from pcbench.models.predictive.pullback import flatten
from pcbench.training.moments import Moments, bytes_of, operations
from pcbench.training.normal import SMALL, STEPS, Array, Normal
from pcbench.training.phases import Axis

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # times the mean variance of a window's values
MIDDLE = 1e-3  # the one that is solved exactly while choosing
CHOOSERS = 32  # outputs (channels times phases) that the choice looks at


@dataclass(frozen=True)
class Linear:
    """A predictor as fixed layers, one convolution, and perhaps a ReLU.

    Attributes:
        fixed: without parameters.
        last: the convolution; (B, C, H, W) -> (B, O, H', W').
        rectified: whether a ReLU follows.
    """

    fixed: nn.Sequential
    last: nn.ConvTranspose2d | nn.Conv2d
    rectified: bool

    def axes(self, size: torch.Size, outputs: torch.Size) -> tuple[Axis, Axis]:
        """The two directions, for maps of a size and outputs of a size, both (H, W)."""
        found = []
        for n in range(2):
            kernel, dilation, padding = self.last.kernel_size[n], self.last.dilation[n], int(self.last.padding[n])
            if isinstance(self.last, nn.Conv2d):  # with stride 1, a transposed convolution by the mirrored kernel
                padding = dilation * (kernel - 1) - padding
            found.append(Axis.of(size[n], outputs[n], kernel, self.last.stride[n], padding, dilation))
        return found[0], found[1]

    def apply(self, u: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The convolution of u by a kernel (C, K, height, width), of a transposed convolution, and a bias (K,)."""
        last = self.last
        assert not isinstance(last.padding, str)
        if isinstance(last, nn.Conv2d):
            kernel = weight.transpose(0, 1).flip(2, 3)
            return functional.conv2d(u, kernel, bias, last.stride, last.padding, last.dilation)
        extra = last.output_padding
        return functional.conv_transpose2d(u, weight, bias, last.stride, last.padding, extra, 1, last.dilation)

    @torch.no_grad()
    def set(self, weight: Tensor, bias: Tensor) -> None:
        """Give the convolution a kernel and a bias in the form of `apply`."""
        plain = isinstance(self.last, nn.Conv2d)
        self.last.weight.copy_(weight.transpose(0, 1).flip(2, 3) if plain else weight)
        if self.last.bias is not None:
            self.last.bias.copy_(bias)


def linear_parts(predictor: nn.Module, number: int) -> Linear:
    """The parts of a predictor. Raises UserError, with the PCoder's number, when it is not of that form."""
    layers = [layer for layer in flatten(predictor) if type(layer) is not nn.Identity]
    rectified = len(layers) > 1 and type(layers[-1]) is nn.ReLU
    *fixed, last = layers[:-1] if rectified else layers
    problem = None
    if type(last) not in (nn.ConvTranspose2d, nn.Conv2d):
        problem = "does not end in a convolution, perhaps with a ReLU behind it"
    elif any(True for layer in fixed for _ in layer.parameters()):
        problem = "has parameters in two layers"
    else:
        assert isinstance(last, nn.ConvTranspose2d | nn.Conv2d)
        reach = [d * (k - 1) for d, k in zip(last.dilation, last.kernel_size, strict=True)]
        if last.groups != 1 or last.padding_mode != "zeros" or isinstance(last.padding, str):
            problem = "ends in a convolution with groups, or padded with other than a number of zeros"
        elif isinstance(last, nn.Conv2d) and (
            last.stride != (1, 1) or any(r < int(p) for r, p in zip(reach, last.padding, strict=True))
        ):
            problem = "ends in a convolution with a stride, or padded beyond its kernel"
    if problem is not None:
        raise UserError(
            f"PCoder {number}: its predictor {problem}, so least squares do not apply; --method gradient does"
        )
    assert isinstance(last, nn.ConvTranspose2d | nn.Conv2d)
    return Linear(nn.Sequential(*fixed), last, rectified)


@dataclass(frozen=True)
class Solution:
    """What a regression found.

    Attributes:
        ridge: one of RIDGES.
        training_error: mean squared error on the training images, before the ReLU.
    """

    ridge: float
    training_error: float


class Regression:
    """The least squares of one predictor.

    Args:
        parts: of the predictor.
        e, target: representation and layer below of one image, (1, C, H, W) each: their shapes count.
        device: where sums are gathered.
    """

    def __init__(self, parts: Linear, e: Tensor, target: Tensor, device: torch.device | str = "cpu") -> None:
        self.parts = parts
        with torch.no_grad():
            u: Tensor = parts.fixed(e)
        self.y, self.x = parts.axes(u.shape[2:], target.shape[2:])
        self.channels, self.targets = u.shape[1], target.shape[1]
        self.outputs = target.shape[2] * target.shape[3]
        self.device = device
        self._moments: Moments | None = None
        self._systems: list[Normal] = []
        self._found = torch.empty(0), torch.empty(0)
        self._steps = 0
        # Phases with the same windows share a matrix.
        self.groups: dict[object, list[int]] = {}
        self.phases = [(py, px) for py in self.y.phases for px in self.x.phases]
        for n, (py, px) in enumerate(self.phases):
            self.groups.setdefault((py.form, px.form), []).append(n)

    @property
    def unknowns(self) -> list[int]:
        """Values in a window, for each group of phases."""
        found = (self.phases[numbers[0]] for numbers in self.groups.values())
        return [self.channels * len(py.taps) * len(px.taps) for py, px in found]

    @property
    def images_needed(self) -> int:
        """The fewest images that have as many windows as a window has values."""
        needed = 1
        for unknowns, numbers in zip(self.unknowns, self.groups.values(), strict=True):
            py, px = self.phases[numbers[0]]
            places = [len(range(p.start, p.stop)) for p in (self.y.positions(py), self.x.positions(px))]
            needed = max(needed, math.ceil(unknowns / max(1, places[0] * places[1])))
        return needed

    @property
    def gathered_bytes(self) -> int:
        """Memory of the sums."""
        return bytes_of(self.channels, self.targets, self.y, self.x)

    @property
    def solved_bytes(self) -> int:
        """Further memory while solving."""
        right = self.targets * len(self.phases) * self.channels * self.y.reach * self.x.reach
        return 8 * (sum(n * n for n in self.unknowns) + 2 * right)

    def operations(self, images: int) -> float:
        """Floating-point operations for gathering and solving, roughly."""
        right = self.targets * len(self.phases)
        total = images * operations(self.channels, self.targets, self.y, self.x)
        for n in self.unknowns:
            choosing = len(RIDGES) * n**3 / 3 if n <= SMALL else 2 * n**3 / 3 + 2 * STEPS * 4 * n**2 * CHOOSERS
            total += choosing + 2 * n**2 * right
        return total

    def add(self, e: Tensor, target: Tensor) -> None:
        """Add images: e (B, C, H, W) and the layer below (B, O, H', W')."""
        if self._moments is None:
            self._moments = Moments(self.channels, self.targets, self.y, self.x, self.device)
        with torch.no_grad():
            self._moments.add(self.parts.fixed(e), target)

    def solve(self, e: Tensor, target: Tensor, *, refine: bool = False) -> Solution:
        """Set the predictor's parameters to the least squares; the sums are given up.

        Args:
            e: as for `add`, of images that were not added: the ridge is chosen on them.
            target: likewise.
            refine: keep what `refine` needs, `solved_bytes` of memory.
        """
        moments = self._moments
        assert moments is not None, "there are no images to solve for"
        self._moments = None
        systems = [Normal(moments.gram(*self.phases[numbers[0]])) for numbers in self.groups.values()]
        unit = self._unit(moments)
        chosen = self._choosers()
        ridge = self._choose(moments, systems, unit, chosen, e, target)
        for system in systems:
            system.factor(ridge * unit)
        everything = torch.arange(self.targets)
        solved = [system.solve(b) for system, b in zip(systems, self._right(moments, everything), strict=True)]
        weight, bias, met = self._assemble(moments, solved, everything)
        self._systems, self._found = (systems, (weight, bias)) if refine else ([], self._found)
        penalty = ridge * unit * float(weight.square().sum())
        error = float(moments.target_squares.sum()) - met - penalty
        self.parts.set(weight.float(), bias.float())
        return Solution(ridge, max(error, 0.0) / (moments.images * self.outputs * self.targets))

    def add_again(self, e: Tensor, target: Tensor) -> None:
        """Add images for one step of refinement; as `add`."""
        if self._moments is None:
            self._moments = Moments(self.channels, self.targets, self.y, self.x, self.device, own=False)
        with torch.no_grad():
            u: Tensor = self.parts.fixed(e)
            predicted: Tensor = self.parts.last(u)
            self._moments.add(u, torch.where((predicted < 0) & (target <= 0), predicted, target))

    def refine(self, *, last: bool) -> None:
        """Take a step of refinement with the images that were added again; the last one ends without momentum."""
        moments = self._moments
        assert moments is not None, "there are no images to refine on"
        self._moments = None
        everything = torch.arange(self.targets)
        sides = self._right(moments, everything)
        solved = [system.solve(b) for system, b in zip(self._systems, sides, strict=True)]
        weight, bias, _ = self._assemble(moments, solved, everything)
        momentum = 0.0 if last else self._steps / (self._steps + 3)
        ahead = [new + momentum * (new - old) for new, old in zip((weight, bias), self._found, strict=True)]
        self._found = weight, bias
        self._steps += 1
        self.parts.set(ahead[0].float(), ahead[1].float())
        if last:
            self._systems = []

    def _unit(self, moments: Moments) -> float:
        """The mean variance of a window's values, times the number of windows: ridges are measured in it."""
        mean = moments.total.sum((1, 2)) / (moments.images * self.y.size * self.x.size)
        squares = moments.own_squares() / (moments.images * self.y.size * self.x.size)
        variance = float((squares - mean.square()).mean())
        return max(variance, 1e-12) * moments.images * self.outputs / len(self.phases)

    def _choosers(self) -> Tensor:
        """Channels of the outputs that the ridge is chosen on, evenly spaced."""
        count = max(1, min(self.targets, CHOOSERS // len(self.phases)))
        return torch.linspace(0, self.targets - 1, count).round().long()

    def _choose(
        self, moments: Moments, systems: list[Normal], unit: float, chosen: Tensor, e: Tensor, target: Tensor
    ) -> float:
        """The ridge with the smallest squared error on held-out images; the larger of two that are equal."""
        right = self._right(moments, chosen)
        for system in systems:
            system.factor(MIDDLE * unit)
        solved = {MIDDLE: [system.solve(b) for system, b in zip(systems, right, strict=True)]}
        upwards = [ridge for ridge in RIDGES if ridge >= MIDDLE]
        downwards = [ridge for ridge in reversed(RIDGES) if ridge <= MIDDLE]
        for path in (upwards, downwards):
            for before, ridge in pairwise(path):
                solved[ridge] = [
                    system.approach(ridge * unit, b, start)
                    for system, b, start in zip(systems, right, solved[before], strict=True)
                ]
        errors = {
            ridge: self._error(*self._assemble(moments, solved[ridge], chosen)[:2], chosen, e, target)
            for ridge in RIDGES
        }
        return min(RIDGES, key=lambda ridge: (errors[ridge], -ridge))

    def _error(self, weight: Tensor, bias: Tensor, chosen: Tensor, e: Tensor, target: Tensor) -> float:
        """Squared error of some outputs on images."""
        total = 0.0
        with torch.no_grad():
            for one, below in zip(torch.split(e, 8), torch.split(target, 8), strict=True):
                predicted = self.parts.apply(self.parts.fixed(one), weight.to(one), bias.to(one))
                predicted = functional.relu(predicted) if self.parts.rectified else predicted
                total += float((predicted - below[:, chosen.to(below.device)]).double().square().sum())
        return total

    def _right(self, moments: Moments, chosen: Tensor) -> list[Array]:
        """For each group, the right sides of all its phases and chosen channels, and the sum of the windows."""
        sides = []
        for numbers in self.groups.values():
            columns = [moments.products(n)[:, chosen.to(moments.device)] for n in numbers]
            columns.append(moments.window_sum(*self.phases[numbers[0]])[:, None])
            sides.append(torch.cat(columns, 1).cpu().numpy())
        return sides

    def _assemble(self, moments: Moments, solved: list[Array], chosen: Tensor) -> tuple[Tensor, Tensor, float]:
        """Kernel (C, chosen, height, width) and bias (chosen,), float64, from the solutions of `_right`'s systems.

        Also the sum over outputs of solution times right side: what the prediction takes off the targets' squares.
        """
        K = len(chosen)
        bias = torch.zeros(K, dtype=torch.float64)
        sums = moments.target_total.cpu()[chosen]
        if self.parts.last.bias is not None:
            above, below = sums.clone(), float(moments.images * self.outputs)
            for x, numbers in zip(solved, self.groups.values(), strict=True):
                g = moments.window_sum(*self.phases[numbers[0]]).cpu().numpy()
                above -= torch.from_numpy((g @ x[:, :-1]).reshape(len(numbers), K).sum(0))
                below -= len(numbers) * float(g @ x[:, -1])
            bias = above / below
        kernel = self.parts.last.kernel_size
        weight = torch.zeros(self.channels, K, *kernel, dtype=torch.float64)
        met = float(bias @ sums)
        for x, numbers in zip(solved, self.groups.values(), strict=True):
            for place, n in enumerate(numbers):
                py, px = self.phases[n]
                own = torch.from_numpy(x[:, place * K : (place + 1) * K] - np.outer(x[:, -1], bias.numpy()))
                met += float((own * moments.products(n)[:, chosen.to(moments.device)].cpu()).sum())
                taps = own.reshape(len(py.taps), len(px.taps), self.channels, K).permute(2, 3, 0, 1)
                rows, columns = torch.tensor(py.taps, dtype=torch.long), torch.tensor(px.taps, dtype=torch.long)
                weight[:, :, rows[:, None], columns] = taps
        return weight, bias, met
