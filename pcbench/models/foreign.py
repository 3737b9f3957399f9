"""Networks of the user's own: `pcbench.network` declares what cannot be seen in a network, and nothing is assumed."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.models.base import FeedforwardClassifier, Interpolation, Preprocessing, TemporalClassifier
from pcbench.models.options import Json
from pcbench.models.own import initialised
from pcbench.models.spec import ModelSpec, Weights
from pcbench.sourcecode import classes_of, source_digest

OWN = "own"
"""The tag of the weights that a user's function loads by itself."""

_RANDOM = "random"
_DECLARATION = "__pcbench_network__"
_EXAMPLE = '@pcbench.network(size=32, classes="cifar10", normalises=True)'
Declared = TypeVar("Declared", bound=Callable[..., object])


@dataclass(frozen=True)
class network:  # noqa: N801 - it is used as a decorator
    """What a network of one's own is: a decorator for a function, a class or an nn.Module.

    The function or class takes no arguments and gives an nn.Module, which takes images (B, 3, H, W) and gives logits:

    - ``forward(images) -> (B, classes)``: a feedforward network.
    - ``forward(images, timesteps) -> (timesteps + 1, B, classes)``: a network with dynamics, from t = 0, its
      feedforward pass, to t = timesteps. This is the one method that it takes.
    - ``forward(images) -> (T + 1, B, classes)``, or a list of T + 1 tensors (B, classes): likewise, of fixed length.

    Args:
        size: of the images, in pixels: a number for squares, or (height, width).
        classes: whose classes the logits are for: the name of a label space ("imagenet", "cifar10", "cifar100", ...).
            Or their number, for labels that no data set here defines: they are then taken in the order of the data's.
        mean, std: of the normalisation that the network wants of images in [0, 1], each a number or one a channel.
        normalises: True for a network that takes images in [0, 1] and normalises by itself, or not at all. Either this
            or mean and std: with neither, it is not known what the network wants, and it is refused.
        timesteps: default T; 0 for a feedforward network, and for one of fixed length, which knows it.
        resize: length of the short side before the centre crop, in pixels; None when images come in the right size.
        interpolation: of the resize: "bilinear" or "bicubic".
        baseline: name of the feedforward network to compare with, if there is one.
        name: what records call an nn.Module that has no name; its class's by default.

    Raises:
        UserError: a declaration that cannot be.

    Example::

        @pcbench.network(size=32, classes="cifar10", mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26), timesteps=8)
        def net():
            model = MyRecurrentNet()
            model.load_state_dict(torch.load("mine.pt", weights_only=True))
            return model

        # pcbench run --model mymodel:net --suite cifar-c

        pcbench.run(model=pcbench.network(size=32, classes="cifar10", normalises=True)(module), suite="cifar-c")
    """

    size: int | tuple[int, int]
    classes: str | int
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    normalises: bool = False
    timesteps: int = 0
    resize: int | None = None
    interpolation: Interpolation = "bilinear"
    baseline: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.normalises == (self.mean is not None or self.std is not None):
            raise UserError(
                "pcbench.network: say how images are normalised: mean=... and std=... of images in [0, 1], or "
                "normalises=True for a network that takes images in [0, 1] and normalises by itself, or not at all"
            )
        if (self.mean is None) != (self.std is None):
            raise UserError("pcbench.network: mean and std go together; one of them is missing")
        height, width = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        for what, value in (("size", height), ("size", width), ("resize", self.resize or 1)):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 8192:
                raise UserError(f"pcbench.network: {what} is {value!r}; it is a number of pixels")
        if not isinstance(self.timesteps, int) or not 0 <= self.timesteps <= 10_000:
            raise UserError(f"pcbench.network: timesteps is {self.timesteps!r}; it counts updates, so 0 or more")
        if isinstance(self.classes, bool) or not isinstance(self.classes, int | str):
            raise UserError(f"pcbench.network: classes is {self.classes!r}; it is a label space or a number")
        if isinstance(self.classes, int) and self.classes < 2:
            raise UserError(f"pcbench.network: classes is {self.classes}; two are the least")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise UserError(f"pcbench.network: interpolation is {self.interpolation!r}; it is bilinear or bicubic")
        means, stds = self._channels(self.mean, 0.0), self._channels(self.std, 1.0)
        if len(means) != len(stds) or not all(0 < std < 1e6 for std in stds) or not all(abs(m) < 1e6 for m in means):
            raise UserError(f"pcbench.network: mean {self.mean} and std {self.std} are no normalisation of 3 channels")

    def __call__(self, thing: Declared) -> Declared:
        """Declare a function, a class or an nn.Module; it is returned, otherwise unchanged."""
        if not callable(thing):
            raise UserError(f"pcbench.network declares functions, classes and modules, not {type(thing).__name__}")
        setattr(thing, _DECLARATION, self)
        return thing

    @property
    def preprocessing(self) -> Preprocessing:
        """As models have it."""
        size = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        mean, std = self._channels(self.mean, 0.0), self._channels(self.std, 1.0)
        return Preprocessing(size, mean, std, self.resize, self.interpolation)

    @property
    def label_space(self) -> str:
        """Of the classes; of a number, one that no data set has."""
        return self.classes if isinstance(self.classes, str) else f"{self.classes} classes"

    @staticmethod
    def _channels(given: float | Sequence[float] | None, default: float) -> tuple[float, ...]:
        value = default if given is None else given
        try:
            parts = tuple(float(part) for part in (value if isinstance(value, Sequence) else [value] * 3))
        except (TypeError, ValueError):
            parts = ()
        if len(parts) not in (1, 3):
            raise UserError(f"pcbench.network: {given!r} is no mean or std: a number, or one for each of 3 channels")
        return parts


class ForeignClassifier(TemporalClassifier):
    """A user's network with dynamics, behind the interface of all others.

    Args:
        network: see `pcbench.network`.
        num_classes: that it was seen to have.
        declared: what its user says about it.
        longest: T of a network of fixed length; None for one that takes `timesteps`.
    """

    def __init__(self, network: nn.Module, num_classes: int, declared: network, longest: int | None) -> None:
        super().__init__(num_classes, declared.preprocessing, declared.timesteps if longest is None else longest)
        self.network = network
        self.longest = longest
        self.train(network.training)

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        """See TemporalClassifier."""
        if self.longest is None:
            return _answers(self.network(x, timesteps=timesteps), len(x), self._who, timesteps)
        if timesteps > self.longest:
            raise UserError(f"{self._who} gives its answers up to t = {self.longest}; t = {timesteps} is asked for")
        return _answers(self.network(x), len(x), self._who)[: timesteps + 1]

    @property
    def _who(self) -> str:
        return self.name or type(self.network).__name__


def foreign_spec(name: str, thing: object) -> ModelSpec:
    """The model "package.module:thing", or that of an entry point.

    Args:
        name: what users type.
        thing: a ModelSpec; or a function, class or nn.Module, declared with `pcbench.network`; or a function or class
            that gives a TemporalClassifier, which says in its attribute `label_space` whose classes it knows.

    Raises:
        UserError: it is none of these, or not declared.
    """
    if isinstance(thing, ModelSpec):
        return thing
    if isinstance(thing, nn.Module):
        return module_spec(thing, name)
    if not callable(thing):
        raise UserError(f"model {name} is of type {type(thing).__name__}; it must be a function, class or nn.Module")
    make = thing

    def made(seed: int) -> nn.Module:
        try:
            network = initialised(make, seed)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"model {name} cannot be made: {type(error).__name__}: {error}") from error
        if not isinstance(network, nn.Module):
            raise UserError(f"model {name} gives a {type(network).__name__}; it must give an nn.Module")
        return network

    return _spec(name, made, getattr(thing, _DECLARATION, None), source_digest([thing]))


def module_spec(module: nn.Module, name: str | None = None) -> ModelSpec:
    """A network that is there already. It is copied, and left untouched.

    Raises:
        UserError: it is not declared.
    """
    declared = getattr(module, _DECLARATION, None)
    called = name or (declared.name if isinstance(declared, network) else None) or type(module).__name__
    sources = [*classes_of(module), _Text(repr(module))]
    return _spec(called, lambda _: copy.deepcopy(module), declared, source_digest(sources), drawn=False)


class _Text:
    """Something that counts by its text alone: what layers a network is made of, with their sizes and strides."""

    def __init__(self, text: str) -> None:
        self.__qualname__ = text


def _spec(
    name: str, made: Callable[[int], nn.Module], declared: object, source: str, *, drawn: bool = True
) -> ModelSpec:
    if isinstance(declared, network):
        preprocessing, space, timesteps = declared.preprocessing, declared.label_space, declared.timesteps
    else:
        ready = made(0)  # only a TemporalClassifier says by itself what it wants
        space = getattr(ready, "label_space", "")
        if not isinstance(ready, TemporalClassifier) or not space:
            raise UserError(_undeclared(name, ready))
        preprocessing, timesteps = ready.preprocessing, ready.timesteps

    def build(spec: ModelSpec, weights: Weights, options: Mapping[str, Json], seed: int) -> TemporalClassifier:
        if weights.tag == _RANDOM:
            _check_drawn(name, made, drawn)
        made_network = made(seed)
        if not isinstance(declared, network):
            assert isinstance(made_network, TemporalClassifier)
            return made_network
        if isinstance(made_network, TemporalClassifier):
            raise UserError(
                f"model {name} is a TemporalClassifier, which says itself what it wants; give it an attribute "
                "label_space in the place of the declaration"
            )
        model = _as_classifier(name, made_network, declared)
        model.provenance = {"seed": seed, "source": spec.source}
        return model

    classes = declared.classes if isinstance(declared, network) and isinstance(declared.classes, int) else 0
    own = Weights(OWN, preprocessing, classes, space, description="as the network loads them itself")
    return ModelSpec(
        name=name,
        family="foreign",
        description="a network of the user's own",
        build=build,
        weights=(own,),
        timesteps=timesteps,
        baseline=declared.baseline if isinstance(declared, network) else None,
        source=source,
    )


def _undeclared(name: str, ready: nn.Module) -> str:
    if isinstance(ready, TemporalClassifier):
        return f'model {name} does not say whose classes it knows: give it an attribute label_space = "cifar10"'
    return (
        f"model {name} does not say what images it takes and whose classes it knows; nothing of that is assumed: "
        f"declare it, e.g. {_EXAMPLE} above the function, or mean=..., std=... for one that wants normalised images"
    )


def _as_classifier(name: str, made: nn.Module, declared: network) -> TemporalClassifier:
    """The network behind our interface, by the form of what it gives for two or three grey images."""
    made.eval()
    preprocessing = declared.preprocessing
    takes_timesteps = _takes_timesteps(made)
    batch = 3 if declared.timesteps == 1 else 2  # so that the answers' first two dimensions differ
    images = torch.zeros(batch, len(preprocessing.mean), *preprocessing.size)
    given = next(made.parameters(), images)
    images = images.to(given.device, given.dtype if given.is_floating_point() else images.dtype)
    try:
        with torch.no_grad():
            found = made(images, timesteps=declared.timesteps) if takes_timesteps else made(images)
    except UserError:
        raise
    except Exception as error:
        shape = tuple(images.shape)
        raise UserError(f"model {name} fails on images {shape}: {type(error).__name__}: {error}") from error
    answers = _answers(found, batch, name, declared.timesteps if takes_timesteps else None, flat=not takes_timesteps)
    classes = answers.shape[-1]
    if isinstance(declared.classes, int) and classes != declared.classes:
        raise UserError(f"model {name} gives {classes} logits for each image; it is declared with {declared.classes}")
    if answers.ndim == 2:
        if declared.timesteps:
            raise UserError(
                f"model {name} is declared with {declared.timesteps} timesteps and gives one answer (B, classes); a "
                "network with dynamics has forward(images, timesteps) -> (timesteps + 1, B, classes)"
            )
        return FeedforwardClassifier(made, classes, preprocessing)
    longest = None if takes_timesteps else len(answers) - 1
    if longest is not None and declared.timesteps not in (0, longest):
        raise UserError(
            f"model {name} is declared with {declared.timesteps} timesteps and gives {len(answers)} answers, of "
            f"t = 0..{longest}; declare {longest}, or give its forward an argument `timesteps`"
        )
    return ForeignClassifier(made, classes, declared, longest)


def _takes_timesteps(made: nn.Module) -> bool:
    try:
        return "timesteps" in inspect.signature(made.forward).parameters
    except (TypeError, ValueError):  # compiled code has no signature
        return False


def _answers(found: object, batch: int, name: str, timesteps: int | None = None, *, flat: bool = False) -> Tensor:
    """What a network gave, as a tensor (T + 1, B, classes), or (B, classes) where that is allowed. Raises UserError."""
    if isinstance(found, list | tuple) and found and all(isinstance(part, Tensor) for part in found):
        shapes = {tuple(part.shape) for part in found}
        if len(shapes) == 1:
            found = torch.stack(list(found))
    wanted = f"(T + 1, {batch}, classes)" if timesteps is None else f"({timesteps + 1}, {batch}, classes)"
    wanted = f"({batch}, classes) or {wanted}" if flat else wanted
    if not isinstance(found, Tensor):
        raise UserError(f"model {name} gives a {type(found).__name__} for {batch} images; it must give logits {wanted}")
    right = found.ndim == 3 and found.shape[1] == batch and (timesteps is None or len(found) == timesteps + 1)
    if not (right or (flat and found.ndim == 2 and len(found) == batch)) or not found.is_floating_point():
        shape = tuple(found.shape)
        raise UserError(f"model {name} gives {shape} for {batch} images; it must give logits {wanted}")
    return found


def _check_drawn(name: str, made: Callable[[int], nn.Module], drawn: bool) -> None:
    """Refuse "random" for a network whose parameters are not drawn anew, with the seed, whenever it is made."""
    if not drawn:
        raise UserError(f"model {name} is there already, with its parameters; it has no random ones")
    one, other = made(0), dict(made(1).named_parameters())
    for key, value in one.named_parameters():
        constant = value.numel() < 2 or bool((value == value.flatten()[0]).all())
        if not constant and key in other and torch.equal(value, other[key]):
            raise UserError(
                f"model {name} has no random weights: its parameter {key!r} is the same whatever the seed, so it is "
                "loaded, not drawn; name a function that does not load it"
            )
