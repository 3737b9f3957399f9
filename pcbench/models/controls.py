"""Controls for dynamics: what a feedforward network does with further passes, or with a plain filter before it.

Both answer at every timestep like a network with dynamics, so that one run sets them beside one: does feedback do more
than the same compute spent on averaging (`Averaging`), and more than any smoothing of the image (`Diffusion`)?
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pcbench.errors import UserError
from pcbench.models.base import AtTimestep, TemporalClassifier
from pcbench.models.folding import Folding
from pcbench.models.options import Json, Option
from pcbench.models.spec import ModelSpec, Weights
from pcbench.randomness import torch_generator

TIMESTEPS = 8
FAMILY = "control"

_LARGEST_SIGMA = 100.0  # a blur wider than any image, noise beyond any signal
_TAIL = 1e-7  # of a kernel's sum that its ends may lack: less than float32 resolves


class Control(TemporalClassifier):
    """A network without dynamics, asked about another version of the image at each timestep.

    Args:
        wrapped: has no dynamics; at t = 0 its answer is given, bit for bit.
        timesteps: default T.

    Raises:
        UserError: the network has dynamics.
    """

    def __init__(self, wrapped: TemporalClassifier, timesteps: int = TIMESTEPS) -> None:
        if wrapped.has_dynamics:
            raise UserError(_has_dynamics(wrapped.name or "the network"))
        super().__init__(wrapped.num_classes, wrapped.preprocessing, timesteps)
        self.wrapped = wrapped
        self.training = wrapped.training  # not .train(), which would wake frozen normalisations

    def fold(self) -> list[Folding]:
        """See TemporalClassifier."""
        return self.wrapped.fold()

    def feedforward(self, x: Tensor) -> Tensor:
        """The network's logits (B, classes) of normalised images, in the dtype of the images."""
        if self.checkpointing and torch.is_grad_enabled():
            logits: Tensor = checkpoint(lambda x: self.wrapped.rollout(x, 0)[0], x, use_reentrant=False)
        else:
            logits = self.wrapped.rollout(x, 0)[0]
        return logits.to(x.dtype)


class Averaging(Control):
    """Test-time averaging over noise: at t, the logarithm of the mean class probabilities of t + 1 passes.

    The first is the pass on the image as it is, which is paid for anyway; the others see it with Gaussian noise. The
    noise of pass t depends on (noise_seed, t, shape of the image) alone: every image gets the same.

    Args:
        wrapped: see Control.
        sigma: standard deviation of the noise, after normalisation.
        noise_seed: of the noise.
    """

    def __init__(self, wrapped: TemporalClassifier, sigma: float, noise_seed: int = 0) -> None:
        super().__init__(wrapped)
        self.sigma = sigma
        self.noise_seed = noise_seed

    def noises(self, timesteps: int, x: Tensor) -> Tensor:
        """What is added to the images x (B, C, H, W) for passes 1..T: (T, C, H, W), of their device and dtype.

        All of it moves at once: a copy for each timestep would make a device wait T times.
        """
        shape = tuple(x.shape[1:])
        drawn = torch.empty(timesteps, *shape)
        for t, noise in enumerate(drawn, start=1):
            noise.normal_(generator=torch_generator(self.noise_seed, "averaging", t, *shape))
        return self.sigma * drawn.to(x)

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        """See TemporalClassifier: logits at t = 0, log-probabilities afterwards."""
        answers = [self.feedforward(x)]
        total = answers[0].log_softmax(-1)
        for t, noise in enumerate(self.noises(timesteps, x), start=1):
            total = torch.logaddexp(total, self.feedforward(x + noise).log_softmax(-1))
            answers.append(total - math.log(t + 1))
        return torch.stack(answers)


class Diffusion(Control):
    """A low-pass filter without feedback: at t, the network sees the image after t steps of the heat equation.

    A step is the exact solution on the pixel grid with reflecting borders (no flux; edge pixels repeat), which is a
    convolution with the discrete Gaussian kernel exp(-sigma^2) I_k(sigma^2), I_k the modified Bessel function
    (Lindeberg 1990, Scale-space for discrete signals). Its variance is sigma^2 exactly, and that of t steps t sigma^2.

    Args:
        wrapped: see Control.
        sigma: standard deviation of one step, in pixels.
    """

    kernel: Tensor

    def __init__(self, wrapped: TemporalClassifier, sigma: float) -> None:
        super().__init__(wrapped)
        self.sigma = sigma
        self.register_buffer("kernel", heat_kernel(sigma), persistent=False)

    def step(self, x: Tensor) -> Tensor:
        """(B, C, H, W) after one step; in the images' own precision whatever autocast is on."""
        with torch.autocast(x.device.type, enabled=False):
            return self._along(self._along(x, 2), 3)

    def _along(self, x: Tensor, dim: int) -> Tensor:
        radius = len(self.kernel) // 2
        x = x.index_select(dim, reflected(x.shape[dim], radius, x.device))
        shape = (1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1)
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.to(x).view(shape).expand(channels, -1, -1, -1), groups=channels)

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        """See TemporalClassifier."""
        answers = [self.feedforward(x)]
        for _ in range(timesteps):
            x = self.step(x)
            answers.append(self.feedforward(x))
        return torch.stack(answers)

    def at(self, t: int) -> AtTimestep:
        """See TemporalClassifier: t steps and one pass of the network."""
        return _DiffusedAt(self, t)


class _DiffusedAt(AtTimestep):
    """The answer at t without those before it."""

    model: Diffusion

    def forward(self, images: Tensor) -> Tensor:
        """See AtTimestep."""
        self.model.check(images)
        x = self.model.normalise(images)
        for _ in range(self.t):
            x = self.model.step(x)
        return self.model.feedforward(x)


def heat_kernel(sigma: float) -> Tensor:
    """Weights of the discrete Gaussian kernel of variance sigma^2: (2 r + 1,) in float64, of sum 1.

    >>> [round(weight, 4) for weight in heat_kernel(0.5)[3:8].tolist()]
    [0.0061, 0.0981, 0.791, 0.0981, 0.0061]
    """
    import numpy as np
    from scipy.special import ive

    right = ive(np.arange(math.ceil(8 * sigma) + 8), sigma**2)  # the sum beyond is far below what is cut off
    lacking = 1 - (2 * np.cumsum(right) - right[0])
    right = right[: int(np.argmax(lacking < _TAIL)) + 1]
    weights = np.concatenate([right[:0:-1], right])
    return torch.from_numpy(weights / weights.sum())


def reflected(length: int, radius: int, device: torch.device) -> Tensor:
    """Indices of a line of pixels with `radius` more on both sides, mirrored at the edges as often as it takes.

    >>> reflected(3, 4, torch.device("cpu")).tolist()
    [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]
    """
    place = torch.arange(-radius, length + radius, device=device) % (2 * length)
    return torch.minimum(place, 2 * length - 1 - place)


Make = Callable[[TemporalClassifier, Mapping[str, Json]], Control]
"""(network, options) -> the control. Raises UserError for options that cannot be."""


def averaging(wrapped: TemporalClassifier, options: Mapping[str, Json]) -> Averaging:
    """From options sigma and noise_seed."""
    return Averaging(wrapped, _sigma(options, 0.1), int(str(options.get("noise_seed", 0))))


def diffusion(wrapped: TemporalClassifier, options: Mapping[str, Json]) -> Diffusion:
    """From option sigma."""
    return Diffusion(wrapped, _sigma(options, 0.5))


def control_spec(prefix: str, rest: str, description: str, make: Make, options: Mapping[str, Option]) -> ModelSpec:
    """The model "PREFIX:NAME", where NAME is a model without dynamics: its weights, by the same tags, and no others.

    Args:
        prefix: see above.
        rest: NAME.
        description: what the control does with the network.
        make: makes the control.
        options: see ModelSpec.

    Raises:
        UserError: no such model, or it has dynamics.
    """
    from pcbench.models.resolve import find

    named = find(rest)
    if named.options:
        raise UserError(f"{rest}: options of the network are not passed on")
    base = named.spec
    if base.timesteps:
        raise UserError(_has_dynamics(base.name))

    def build(spec: ModelSpec, weights: Weights, options: Mapping[str, Json], seed: int) -> TemporalClassifier:
        wrapped = base.build(base, weights, {}, seed)
        wrapped.name = base.name
        model = make(wrapped, options)
        settings = {name: getattr(model, name) for name in spec.options}
        model.provenance = {**wrapped.provenance, "wraps": base.name, **settings}
        return model

    return ModelSpec(
        name=f"{prefix}:{base.name}",
        family=FAMILY,
        description=f"{base.description}; {description}",
        build=build,
        weights=base.weights,
        timesteps=TIMESTEPS,
        baseline=base.name,
        options=options,
        counterpart=None if base.counterpart is None else f"{prefix}:{base.counterpart}",
        source=base.source,
    )


def _has_dynamics(name: str) -> str:
    return f"{name} has dynamics of its own; averaging and diffusion are controls that take a network without"


def _sigma(options: Mapping[str, Json], default: float) -> float:
    sigma = float(str(options.get("sigma", default)))
    if not 0 < sigma <= _LARGEST_SIGMA:  # nor is nan
        raise UserError(f"sigma is {sigma:g}; it is a number greater than 0 and at most {_LARGEST_SIGMA:g}")
    return sigma
