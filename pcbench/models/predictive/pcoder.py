"""One PCoder: the predictor of the layer below, and how strongly its representation is updated by what."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.models.predictive.config import Hyperparameters, checked_value
from pcbench.models.predictive.pullback import flatten
from pcbench.models.predictive.spectral import DIRECT, Route

_MAX_ELEMENTS = 2**31
_KEEP_ZERO = (nn.ReLU, nn.ReLU6, nn.Identity, nn.LeakyReLU)  # element by element: reach nothing further


TERMS = ("feedforward", "feedback", "pc")

Weight = float | Tensor
"""Of a term: a number where it is known without asking the device, else the parameter."""


class PCoder(nn.Module):
    """A predictor with its hyperparameters; the representation itself lives in the call, never here.

    Attributes:
        predictor: maps e_n to a prediction of e_(n-1); may be replaced by any module that does.
        C_sqrt: square root of the number of prediction elements that one unit of e_n reaches; a 0-dimensional buffer,
            and what it holds is what scaling "kc" uses.
        feedforward, feedback, pc: weights of the terms of the update: 0-dimensional parameters, which take part in
            `.to`, `state_dict` and `parameters`. They need no gradient until somebody says so, e.g. with
            `pcoder.pc.requires_grad_()` for an optimiser. `hyperparameters` reads and sets them as numbers.
        route: how a predictor that is a large transposed convolution is computed; see `routes.choose_routes`.
    """

    C_sqrt: Tensor
    feedforward: nn.Parameter
    feedback: nn.Parameter
    pc: nn.Parameter

    def __init__(self, predictor: nn.Module, hyperparameters: Hyperparameters, reach: int) -> None:
        super().__init__()
        self.predictor = predictor
        self.route: Route = DIRECT
        self.register_buffer("C_sqrt", torch.tensor(math.sqrt(reach), dtype=torch.float32))
        # What the parameters are known to hold: (the tensor, its version when it was looked at, its value). Looking at
        # a tensor of a device waits for the device, which the unroll must not; a version is known at once.
        self._known: dict[str, tuple[Tensor, int, float]] = {}
        self._off: dict[str, bool] = {}
        for name, value in hyperparameters.values().items():
            self.register_parameter(name, nn.Parameter(torch.tensor(value), requires_grad=False))
            self._keep(name, value)

    @property
    def hyperparameters(self) -> "LiveHyperparameters":
        """The weights of the terms as numbers; reading its attributes reads the parameters, assigning sets them."""
        return LiveHyperparameters(self)

    @hyperparameters.setter
    def hyperparameters(self, values: Hyperparameters) -> None:
        for name, value in values.values().items():
            self.assign(name, value)

    def weight(self, name: str) -> Weight:
        """How a term is to be weighted now.

        A number while the parameter holds what it was last set to, so that a term of weight 0 need not be computed.
        The parameter itself where it is trained, was written to by other means or replaced: then every term is
        computed, whatever it holds. In a compiled network always the parameter, except for 0 as it was last set.
        """
        tensor: Tensor = getattr(self, name)
        if torch.compiler.is_compiling():
            return 0.0 if self._off[name] and not tensor.requires_grad else tensor
        if tensor.requires_grad or not self._is_known(name):
            return tensor
        return self._known[name][2]

    def value(self, name: str) -> float:
        """The weight of a term as a number; waits for the device where it is not known."""
        if not self._is_known(name):
            self._keep(name, shortest_decimal(getattr(self, name)))
        return self._known[name][2]

    def assign(self, name: str, value: object) -> None:
        """Set the weight of a term. Raises UserError for what cannot be one."""
        number = checked_value(name, value)
        tensor: Tensor = getattr(self, name)
        with torch.inference_mode(False), torch.no_grad():
            if tensor.is_inference():  # made in inference mode, so it cannot be written to elsewhere
                setattr(self, name, nn.Parameter(tensor.clone().fill_(number), requires_grad=False))
            else:
                tensor.fill_(number)
        self._keep(name, number)

    def _keep(self, name: str, value: float) -> None:
        tensor: Tensor = getattr(self, name)
        self._known[name] = tensor, _version(tensor), value
        self._off[name] = value == 0.0

    def _is_known(self, name: str) -> bool:
        tensor, version, _ = self._known[name]
        return tensor is getattr(self, name) and version == _version(tensor) >= 0

    def _values(self) -> dict[str, float]:
        """The values that are known."""
        return {name: self._known[name][2] for name in TERMS if self._is_known(name)}

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "PCoder":
        values = self._values()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it without types
        for name, value in values.items():
            self.assign(name, value)  # in the new precision: 0.3 made double is 0.3, not the nearest float32
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        for name in TERMS:
            self.value(name)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": self._values()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_known": {}})  # type: ignore[no-untyped-call]  # likewise
        for name in TERMS:
            value = state["_known"].get(name)
            self._keep(name, shortest_decimal(getattr(self, name)) if value is None else value)


def _version(tensor: Tensor) -> int:
    """A number that grows with every write to the tensor; -1 for one that has none."""
    return -1 if tensor.is_inference() else tensor._version


def shortest_decimal(tensor: Tensor) -> float:
    """The number that a 0-dimensional tensor holds, as the shortest decimal that its precision tells apart.

    >>> shortest_decimal(torch.tensor(0.3)), float(torch.tensor(0.3))
    (0.3, 0.30000001192092896)
    """
    value = tensor.item()
    return float(str(np.float32(value))) if tensor.dtype == torch.float32 else value


class LiveHyperparameters:
    """The hyperparameters of a PCoder as numbers; assigning to an attribute changes the network.

    Attributes:
        feedforward, feedback, pc: see Hyperparameters. Assigning what cannot be one raises UserError.
    """

    feedforward: float
    feedback: float
    pc: float

    def __init__(self, pcoder: PCoder) -> None:
        object.__setattr__(self, "_pcoder", pcoder)

    def __getattr__(self, name: str) -> float:
        if name not in TERMS:
            raise AttributeError(f"hyperparameters are {', '.join(TERMS)}, not {name!r}")
        pcoder: PCoder = object.__getattribute__(self, "_pcoder")
        return pcoder.value(name)

    def __setattr__(self, name: str, value: object) -> None:
        if name not in TERMS:
            raise AttributeError(f"hyperparameters are {', '.join(TERMS)}, not {name!r}")
        pcoder: PCoder = object.__getattribute__(self, "_pcoder")
        pcoder.assign(name, value)

    def values(self) -> dict[str, float]:
        """As a dictionary."""
        return {name: getattr(self, name) for name in TERMS}

    def __repr__(self) -> str:
        return f"LiveHyperparameters({', '.join(f'{name}={value:g}' for name, value in self.values().items())})"


def default_predictor(shape: tuple[int, ...], below: tuple[int, ...]) -> str:
    """The expression of the default predictor, from e_n of one shape (C, H, W) to the layer below of another.

    Bilinear upsampling where the sizes differ, then a 3x3 transposed convolution.

    >>> default_predictor((32, 8, 8), (3, 16, 16))
    "Sequential(Upsample(scale_factor=2, mode='bilinear'), ConvTranspose2d(32, 3, kernel_size=3, padding=1))"
    """
    if len(shape) != 3 or len(below) != 3:
        raise UserError(f"there is no default predictor from shape {shape} to {below}; name one in the configuration")
    convolution = f"ConvTranspose2d({shape[0]}, {below[0]}, kernel_size=3, padding=1)"
    if shape[1:] == below[1:]:
        return convolution
    ratio = below[1] / shape[1]
    if ratio == below[2] / shape[2] and ratio.is_integer():
        return f"Sequential(Upsample(scale_factor={int(ratio)}, mode='bilinear'), {convolution})"
    return f"Sequential(Upsample(size=({below[1]}, {below[2]}), mode='bilinear'), {convolution})"


def predicted_shape(predictor: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape (C, H, W) of the prediction from a representation of a shape (C, H, W), without computing it.

    Raises:
        UserError: the predictor does not take that shape, or makes something enormous of it on the way.
    """
    x = torch.empty((1, *shape), device="meta")
    for layer in flatten(predictor):
        channels = getattr(layer, "num_features", getattr(layer, "in_channels", x.shape[1]))  # not checked on meta
        if x.shape[1] != channels:
            raise UserError(f"predictor {layer} takes {channels} channels, but there are {x.shape[1]}")
        tensors = {name: torch.empty_like(value, device="meta") for name, value in layer.state_dict().items()}
        try:
            with torch.no_grad():
                x = torch.func.functional_call(layer.eval(), tensors, (x,))
        except Exception as error:  # whatever torch makes of shapes that do not fit
            raise UserError(
                f"predictor {layer} does not take {list(x.shape[1:])}: {str(error).splitlines()[0]}"
            ) from None
        if x.numel() > _MAX_ELEMENTS:
            raise UserError(f"predictor {layer} makes {x.numel():,} elements of {list(shape)}; that cannot be meant")
    return tuple(x.shape[1:])


def reach(predictor: nn.Module, shape: tuple[int, ...]) -> int:
    """C: how many elements of the prediction one unit of e_n reaches.

    For one transposed convolution, perhaps with activations, that is kernel height x width x output channels, whatever
    the size of the image. In general it is counted at the centre unit: with all weights 1 and biases 0, where nothing
    can cancel, the prediction changes exactly at the elements that the unit reaches.

    Args:
        predictor: made of layers that pcbench.models.predictive.expressions accepts.
        shape: (C, H, W) of e_n.

    >>> reach(nn.ConvTranspose2d(64, 3, 5, padding=2), (64, 8, 8))
    75
    """
    layers = [layer for layer in flatten(predictor) if not isinstance(layer, _KEEP_ZERO)]
    if len(layers) == 1 and isinstance(layers[0], nn.ConvTranspose2d):
        layer = layers[0]
        return math.prod(layer.kernel_size) * layer.out_channels // layer.groups
    ones = {
        name: (torch.zeros if name.endswith(("bias", "running_mean")) else torch.ones)(value.shape)
        for name, value in predictor.state_dict().items()
    }
    centre = torch.zeros(1, *shape)
    centre[(0, 0, *(size // 2 for size in shape[1:]))] = 1.0
    with torch.no_grad():
        lit: Tensor = torch.func.functional_call(predictor.eval(), ones, (centre,))
        dark: Tensor = torch.func.functional_call(predictor.eval(), ones, (torch.zeros_like(centre),))
    return max(1, int((lit != dark).sum()))
