"""One PCoder: the predictor of the layer below, and how strongly its representation is updated by what."""

import math

import torch
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.models.predictive.config import Hyperparameters
from pcbench.models.predictive.pullback import flatten
from pcbench.models.predictive.spectral import DIRECT, Route

_MAX_ELEMENTS = 2**31
_KEEP_ZERO = (nn.ReLU, nn.ReLU6, nn.Identity, nn.LeakyReLU)  # element by element: reach nothing further


class PCoder(nn.Module):
    """A predictor with its hyperparameters; the representation itself lives in the call, never here.

    Attributes:
        predictor: maps e_n to a prediction of e_(n-1); may be replaced by any module that does.
        C_sqrt: square root of the number of prediction elements that one unit of e_n reaches; a 0-dimensional buffer,
            and what it holds is what scaling "kc" uses.
        hyperparameters: weights of the terms of the update.
        route: how a predictor that is a large transposed convolution is computed; see `routes.choose_routes`.
    """

    C_sqrt: Tensor

    def __init__(self, predictor: nn.Module, hyperparameters: Hyperparameters, reach: int) -> None:
        super().__init__()
        self.predictor = predictor
        self.hyperparameters = hyperparameters
        self.route: Route = DIRECT
        self.register_buffer("C_sqrt", torch.tensor(math.sqrt(reach), dtype=torch.float32))


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


def protect_input(predictor: nn.Module) -> nn.Module:
    """Make a predictor leave its input alone: a leading in-place activation would overwrite the representation."""
    for layer in flatten(predictor):
        if isinstance(layer, nn.Identity):
            continue
        if getattr(layer, "inplace", False):
            setattr(layer, "inplace", False)  # noqa: B010 - torch does not type it
        break
    return predictor
