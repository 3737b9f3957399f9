"""The one interface that everything else relies on: a classifier over images that answers at every timestep."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.models.folding import fold_batch_norms

Interpolation = Literal["bilinear", "bicubic"]

_CAST = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)  # by exact type: a subclass may compute something of its weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes the input of a network. Travels with the weights, because it was trained with them.

    Attributes:
        size: (height, width) of the centre crop that the network sees, in pixels.
        mean, std: per channel, of images in [0, 1]; their length is the number of channels.
        resize: length of the short side before the centre crop, in pixels; None when images come in the right size.
        interpolation: of that resize.
        squash: whether the resize makes squares of images that are none, so that the crop keeps what is at the sides.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    interpolation: Interpolation = "bilinear"
    squash: bool = False


IMAGENET_224 = Preprocessing((224, 224), IMAGENET_MEAN, IMAGENET_STD, resize=256)


class TemporalClassifier(nn.Module):
    """A classifier of images in [0, 1] with an answer at every timestep t = 0..T; t = 0 is its feedforward pass.

    Subclasses write `rollout`, over normalised images, and set `has_dynamics`. Nothing else differs between families.

    Args:
        num_classes: length of the logits.
        preprocessing: size, mean and standard deviation; normalisation happens inside the model.
        timesteps: default T (number of updates); T + 1 answers. 0 for a feedforward network.

    Attributes:
        name: registered name; "" for a model that was built by hand.
        weights: tag of the weights that are loaded.
        provenance: what a record of a run says about the model: checksums, configuration, hyperparameters (JSON).
        has_dynamics: whether the answer can change with t. Without, all T + 1 answers are the same tensor.
        has_representations: whether `representations` has any to show.
        gradients: the ways in which gradients through time can be taken, "exact" first.
        gradient: the one in use. "truncated" treats the error gradient as a constant, as published code does.
        checkpointing: recompute each timestep in the backward pass instead of storing it (less memory, more time).
    """

    has_dynamics: bool = True
    has_representations: ClassVar[bool] = False
    gradients: ClassVar[tuple[str, ...]] = ("exact",)

    mean: Tensor
    std: Tensor

    def __init__(self, num_classes: int, preprocessing: Preprocessing, timesteps: int) -> None:
        super().__init__()
        self.name = ""
        self.weights = ""
        self.provenance: dict[str, object] = {}
        self.num_classes = num_classes
        self.preprocessing = preprocessing
        self.timesteps = timesteps
        self.gradient = "exact"
        self.checkpointing = False
        shape = (1, len(preprocessing.mean), 1, 1)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape), persistent=False)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images that the weights were trained for."""
        return (len(self.preprocessing.mean), *self.preprocessing.size)

    @abstractmethod
    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        """Logits (T + 1, B, classes) of normalised images x (B, C, H, W) at t = 0..T."""

    def normalise(self, images: Tensor) -> Tensor:
        """(images - mean) / std, per channel; laid out channels last, which convolutions are fastest on."""
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def merge_layers(self) -> None:
        """Merge layers that are one linear map at evaluation; the answers stay the same up to rounding."""

    def hold_weights_in(self, dtype: torch.dtype) -> None:
        """Store the weights of convolutions and linear layers in the dtype that autocast computes them in.

        Autocast casts weights that need no gradient anew at every call, which for predictive networks is at every
        timestep; the values that the layers see are the same. Afterwards the model runs under that autocast only.
        """
        for module in self.modules():
            if type(module) in _CAST:
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(dtype)

    def forward(self, images: Tensor, timesteps: int | None = None) -> Tensor:
        """Logits at every timestep.

        Args:
            images: (B, C, H, W), in [0, 1].
            timesteps: T, the number of updates; None for the model's default.

        Returns:
            (T + 1, B, classes); row 0 is the feedforward answer.

        Raises:
            UserError: T is negative, or the images have the wrong rank or number of channels.
        """
        steps = self.timesteps if timesteps is None else timesteps
        if steps < 0:
            raise UserError(f"timesteps is {steps}; it counts updates after the feedforward pass, so 0 or more")
        return self.rollout(self._checked(images), steps)

    def answer(self, images: Tensor, t: int) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W) in [0, 1] at timestep t >= 0 alone; raises as `forward` does."""
        return self.last(self._checked(images), t)

    def last(self, x: Tensor, t: int) -> Tensor:
        """Logits (B, classes) of normalised images at t, for a family where that takes less than all before it."""
        return self.rollout(x, t)[-1]

    def _checked(self, images: Tensor) -> Tensor:
        """The images, normalised, if they are images. Raises UserError."""
        if images.ndim != 4 or images.shape[1] != self.mean.shape[1]:
            raise UserError(
                f"images have shape {tuple(images.shape)}; {self.name or 'the model'} takes "
                f"(batch, {self.mean.shape[1]}, height, width)"
            )
        return self.normalise(images)

    def representations(self, images: Tensor, timesteps: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """At each t = 0..T the logits (B, classes) and the representations, one tensor (B, ...) for each PCoder.

        Raises:
            UserError: the model has none.
        """
        raise UserError(f"{self.name or 'this model'} has no representations; predictive networks do")

    def at(self, t: int) -> "AtTimestep":
        """The answer at timestep t as an ordinary classifier, images -> (B, classes), for attack libraries."""
        if t < 0:
            raise UserError(f"timestep is {t}; the first is 0, the feedforward pass")
        return AtTimestep(self, t)

    @contextmanager
    def differentiated(self, gradient: str | None = None, checkpointing: bool | None = None) -> Iterator[None]:
        """Within the context, take gradients through time in the given way; afterwards as before."""
        before = self.gradient, self.checkpointing
        if gradient is not None:
            if gradient not in self.gradients:
                raise UserError(
                    f"{self.name or 'this model'} has no gradient {gradient!r}; known: {', '.join(self.gradients)}"
                )
            self.gradient = gradient
        if checkpointing is not None:
            self.checkpointing = checkpointing
        try:
            yield
        finally:
            self.gradient, self.checkpointing = before


class AtTimestep(nn.Module):
    """A temporal classifier read at one timestep; computes no more than that takes."""

    def __init__(self, model: TemporalClassifier, t: int) -> None:
        super().__init__()
        self.model = model
        self.t = t
        self.train(model.training)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, classes)."""
        return self.model.answer(images, self.t)


class FeedforwardClassifier(TemporalClassifier):
    """A network without dynamics: the case in which nothing changes with t."""

    has_dynamics = False

    def __init__(self, network: nn.Module, num_classes: int, preprocessing: Preprocessing) -> None:
        super().__init__(num_classes, preprocessing, timesteps=0)
        self.network = network

    def merge_layers(self) -> None:
        """See TemporalClassifier."""
        fold_batch_norms(self.network)

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        """The network's logits, T + 1 times (one computation, no copies)."""
        logits: Tensor = self.network(x)
        return logits.unsqueeze(0).expand(timesteps + 1, -1, -1)
