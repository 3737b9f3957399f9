"""The one interface that everything else relies on: a classifier over images that answers at every timestep."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.models.folding import Folding, fold_batch_norms
from pcbench.models.modes import Modes, modes_of, restore

Interpolation = Literal["bilinear", "bicubic"]

_BRIGHT = 4.0  # mean absolute value of an image above which it is none in [0, 1], whatever noise was added to it
_ROUNDING = 1e-4  # by which merged layers may change logits, of the largest
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

    Asked in one of two ways: `model(images, timesteps)` gives the answers at all timesteps of one pass, and
    `model.at(t)` is an ordinary classifier with the answer at one. A subclass writes one method, `rollout`, over images
    that are checked and normalised already, and says in `has_dynamics` whether its answers change; nobody else calls
    that method.

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
        any_size: whether images of another size than `input_size` are taken. What the weights make of them is another
            matter, so this is False until somebody says otherwise.
        gradients: the ways in which gradients can be taken, "exact" first. "truncated" treats the error gradient as a
            constant, as published code does; "smoothed" takes the smooth stand-ins that a network's jumps declare.
        cuts_gradients: whether "last-K" is one too: through the last K timesteps alone, the state before is a constant.
        gradient: the one in use.
        checkpointing: recompute each timestep in the backward pass instead of storing it (less memory, more time).
    """

    has_dynamics: bool = True
    has_representations: ClassVar[bool] = False
    gradients: tuple[str, ...] = ("exact",)
    cuts_gradients: ClassVar[bool] = False

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
        self.any_size = False
        self.gradient = "exact"
        self.checkpointing = False
        self._looked_at = False  # whether images on a device other than the CPU have had their values checked
        shape = (1, len(preprocessing.mean), 1, 1)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(shape), persistent=False)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images that the weights were trained for."""
        return (len(self.preprocessing.mean), *self.preprocessing.size)

    @abstractmethod
    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        """Logits (T + 1, B, classes) of normalised images x (B, C, H, W) at t = 0..T. For subclasses to write."""

    def normalise(self, images: Tensor) -> Tensor:
        """(images - mean) / std, per channel; laid out channels last, which convolutions are fastest on."""
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor, timesteps: int | None = None) -> Tensor:
        """Logits at every timestep.

        Args:
            images: (B, C, H, W), floating point, in [0, 1]; noise may exceed that.
            timesteps: T, the number of updates; None for the model's default.

        Returns:
            (T + 1, B, classes); row 0 is the feedforward answer.

        Raises:
            UserError: T is negative, or these are no images for this model, see `check`.
        """
        steps = self.timesteps if timesteps is None else timesteps
        if steps < 0:
            raise UserError(f"timesteps is {steps}; it counts updates after the feedforward pass, so 0 or more")
        self.check(images)
        return self.rollout(self.normalise(images), steps)

    def check(self, images: Tensor) -> None:
        """Refuse what cannot be images in [0, 1] for this model.

        Values are looked at one image at a time, so that it does not matter which others are in the batch. Elsewhere
        than on the CPU that waits for the device, so only the first batch is looked at there.

        Raises:
            UserError: no floating-point numbers, another rank, number of channels or size than the model takes, or an
                image whose values are 4 on average and more, as those of 0..255 are.
        """
        name, (channels, *size) = self.name or "the model", self.input_size
        if not images.is_floating_point():
            dtype = str(images.dtype).removeprefix("torch.")
            raise UserError(f"images are {dtype}; {name} takes floating-point numbers in [0, 1]: images / 255")
        if images.ndim != 4 or images.shape[1] != channels:
            shape = tuple(images.shape)
            raise UserError(f"images have shape {shape}; {name} takes (batch, {channels}, height, width)")
        if not self.any_size and list(images.shape[2:]) != size:
            raise UserError(
                f"images are {images.shape[2]} x {images.shape[3]}; {name} takes {size[0]} x {size[1]} "
                f"(resize them, or set its any_size to True)"
            )
        if self._can_look_at(images) and (mean := _brightest(images)) > _BRIGHT:
            raise UserError(f"images have values of {mean:.3g} on average; {name} takes images in [0, 1]: images / 255")

    def _can_look_at(self, images: Tensor) -> bool:
        """Whether values may be looked at now: they are there, and it costs no waiting but for the first time."""
        hidden = type(images) not in (Tensor, nn.Parameter) or torch._C._functorch.is_functorch_wrapped_tensor(images)
        if torch.compiler.is_compiling() or hidden or images.device.type == "meta" or not len(images):
            return False
        if images.device.type == "cpu":
            return True
        first, self._looked_at = not self._looked_at, True
        return first

    def merge_layers(self, images: Tensor) -> str | None:
        """Merge layers that are one linear map at evaluation, unless that changes the answers by more than rounding.

        For whoever sweeps: `load_model` does not call it, so that parameters are those of the file until then.

        Args:
            images: (B, C, H, W) in [0, 1], one or two like those that the model will be asked about. The merged model
                is held against itself on them, through the first update.

        Returns:
            None, or one line that says why the layers stay as they are.
        """
        foldings = self.fold()
        if not foldings:
            return None
        steps = min(self.timesteps, 1)
        with torch.no_grad():
            try:
                found = self(images, steps)
            except Exception as error:  # the network's own code may read what is no longer there
                found, problem = None, (str(error).splitlines() or [type(error).__name__])[0]
            for folding in reversed(foldings):
                folding.undo()
            expected = self(images, steps)
        if found is not None:
            off = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
            if off <= _ROUNDING:  # NaN is not
                self.fold()
                return None
            problem = f"its logits would change by {off:.2g} of the largest"
        return f"{self.name or 'the model'}: normalisations stay apart from the convolutions before them: {problem}"

    def fold(self) -> list[Folding]:
        """Merge what is one linear map, in place and unchecked; for subclasses that know of any."""
        return []

    def hold_weights_in(self, dtype: torch.dtype) -> None:
        """Store the weights of convolutions and linear layers in the dtype that autocast computes them in.

        Autocast casts weights that need no gradient anew at every call, which for predictive networks is at every
        timestep; the values that the layers see are the same. Afterwards the model runs under that autocast only.
        """
        for module in self.modules():
            if type(module) in _CAST:
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(dtype)

    def representations(self, images: Tensor, timesteps: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """At each t = 0..T the logits (B, classes) and the representations, one tensor (B, ...) for each PCoder.

        Raises:
            UserError: the model has none.
        """
        raise UserError(f"{self.name or 'this model'} has no representations; predictive networks do")

    def at(self, t: int) -> "AtTimestep":
        """The answer at timestep t as an ordinary classifier, images -> (B, classes), for attack libraries."""
        return AtTimestep(self, t)

    @contextmanager
    def differentiated(self, gradient: str | None = None, checkpointing: bool | None = None) -> Iterator[None]:
        """Within the context, take gradients through time in the given way; afterwards as before."""
        before = self.gradient, self.checkpointing
        if gradient is not None:
            self.check_gradient(gradient)
            self.gradient = gradient
            self._smooth(gradient == "smoothed")
        if checkpointing is not None:
            self.checkpointing = checkpointing
        try:
            yield
        finally:
            self.gradient, self.checkpointing = before
            self._smooth(self.gradient == "smoothed")

    def check_gradient(self, gradient: str) -> None:
        """Refuse a way of taking gradients that the model does not have. Raises UserError."""
        if gradient in self.gradients or (self.cuts_gradients and last_steps(gradient) is not None):
            return
        known = [*self.gradients, "last-K (K >= 1)"] if self.cuts_gradients else self.gradients
        raise UserError(f"{self.name or 'this model'} has no gradient {gradient!r}; known: {', '.join(known)}")

    def _smooth(self, smooth: bool) -> None:
        if "smoothed" in self.gradients:
            for module in self.modules():
                if isinstance(module, Jump):
                    module.smooth = smooth


def last_steps(gradient: str) -> int | None:
    """K of "last-K", None of every other gradient."""
    start, _, count = gradient.partition("last-")
    return int(count) if not start and count.isdecimal() and int(count) > 0 else None


class Jump(nn.Module):
    """A layer that jumps, so that its gradient says little, and that declares a smooth stand-in for the backward pass.

    Backward pass differentiable approximation (Athalye et al., 2018): values are always the layer's own.

    Attributes:
        smooth: whether the backward pass takes the stand-in.
    """

    smooth = False


class AtTimestep(nn.Module):
    """A temporal classifier read at one timestep: images (B, C, H, W) in [0, 1] -> logits (B, classes).

    `eval()` puts the classifier into eval mode, and `train()` puts each of its modules back into the mode that it had
    before. What was in eval mode, such as frozen normalisations, is never put into train mode by this wrapper.

    Args:
        model: is shared, not copied.
        t: the timestep, 0 or more; the model is unrolled no further.

    Raises:
        UserError: t is negative.
    """

    def __init__(self, model: TemporalClassifier, t: int) -> None:
        if t < 0:
            raise UserError(f"timestep is {t}; the first is 0, the feedforward pass")
        super().__init__()
        self.model = model
        self.t = t
        self.training = model.training
        self._before: Modes = []

    def train(self, mode: bool = True) -> "AtTimestep":
        """See the class."""
        if mode:
            restore(self._before)
            self._before = []
        else:
            self._before = self._before or modes_of(self.model)
            self.model.eval()
        self.training = self.model.training
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, classes)."""
        logits: Tensor = self.model(images, timesteps=self.t)
        return logits[-1]


class FeedforwardClassifier(TemporalClassifier):
    """A network without dynamics: the case in which nothing changes with t."""

    has_dynamics = False

    def __init__(self, network: nn.Module, num_classes: int, preprocessing: Preprocessing) -> None:
        super().__init__(num_classes, preprocessing, timesteps=0)
        self.network = network
        if any(isinstance(module, Jump) for module in network.modules()):
            self.gradients = (*self.gradients, "smoothed")

    def fold(self) -> list[Folding]:
        """See TemporalClassifier."""
        return fold_batch_norms(self.network)

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        """The network's logits, T + 1 times (one computation, no copies)."""
        logits: Tensor = self.network(x)
        return logits.unsqueeze(0).expand(timesteps + 1, -1, -1)


def _brightest(images: Tensor) -> float:
    """The largest mean absolute value of an image; NaN where one has it."""
    return float(images.detach().abs().flatten(1).mean(1, dtype=torch.float32).max())
