"""A prediction together with its pullback: the product of a vector with the predictor's Jacobian, J^T v.

For the predictors in use (convolutions and upsampling, perhaps a ReLU at the end) the pullback has a closed form that
needs no autograd graph: p -> p > 0 is the mask of the ReLU, and each linear layer has an adjoint. It is written in
differentiable functions, so that it can be differentiated itself. Any other module
goes through autograd, with a graph of its own.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcbench.models.predictive import spectral
from pcbench.models.predictive.spectral import DIRECT, Route
from pcbench.models.predictive.spectrum import taps_of
from pcbench.models.predictive.upconvolution import Upconvolution, is_upconvolution

Pullback = Callable[[Tensor], Tensor]

_UPSAMPLE_ADJOINT = {
    "nearest": torch.ops.aten.upsample_nearest2d_backward,
    "bilinear": torch.ops.aten.upsample_bilinear2d_backward,
}


def predict(predictor: nn.Module, e: Tensor, route: Route = DIRECT) -> tuple[Tensor, Pullback]:
    """The prediction p = predictor(e), and v -> J^T v at e. One call of the predictor.

    Args:
        predictor: any module that maps (B, C, H, W) to the form of the layer below.
        e: (B, C, H, W).
        route: of a transposed convolution with perhaps a ReLU; see `routes.choose_routes`.
    """
    layers = flatten(predictor)
    if route != DIRECT and routed_layer(predictor) is not None and not _is_watched(predictor):
        return _routed(layers, e, route)
    if all(_is_linear(layer) for layer in layers[:-1]) and (_is_linear(layers[-1]) or type(layers[-1]) is nn.ReLU):
        linear = layers[:-1] if type(layers[-1]) is nn.ReLU else layers
        if len(linear) == 2 and is_upconvolution(*linear) and not _is_watched(predictor):
            return _upconvolved(linear, e, rectified=linear is not layers)
        p: Tensor = predictor(e)
        return p, lambda v: _adjoint(layers, tuple(e.shape), p, v)
    if not e.is_inference():
        return _by_autograd(predictor, e, differentiable=torch.is_grad_enabled())
    with torch.inference_mode(False):  # autograd cannot see inference tensors
        return _by_autograd(predictor, e.clone(), differentiable=False)


def _is_watched(predictor: nn.Module) -> bool:
    """Whether hooks want to see each of the predictor's layers called."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in predictor.modules())


def _upconvolved(linear: list[nn.Module], e: Tensor, *, rectified: bool) -> tuple[Tensor, Pullback]:
    """`predict` for upsampling, a convolution and perhaps a ReLU."""
    upsample, convolution = linear
    assert isinstance(upsample, nn.Upsample)
    assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
    both = Upconvolution(upsample, convolution)
    if not rectified:
        return both(e), both.adjoint
    p = F.relu(both(e))
    return p, lambda v: both.adjoint(torch.ops.aten.threshold_backward(v, p, 0))


def routed_layer(predictor: nn.Module) -> nn.ConvTranspose2d | None:
    """The layer of a predictor that routes are about: a transposed convolution with nothing behind it but a ReLU."""
    first, *rest = flatten(predictor)
    if taps_of(first) is None or [type(layer) for layer in rest] not in ([], [nn.ReLU]):
        return None
    assert isinstance(first, nn.ConvTranspose2d)
    return first


def _routed(layers: list[nn.Module], e: Tensor, route: Route) -> tuple[Tensor, Pullback]:
    """`predict` for a transposed convolution and perhaps a ReLU, each direction by its route."""
    convolution = layers[0]
    assert isinstance(convolution, nn.ConvTranspose2d)
    p = spectral.forward(convolution, e, route)
    if len(layers) == 1:
        return p, lambda v: spectral.pullback(convolution, v, route)
    rectified = F.relu(p)
    return rectified, lambda v: spectral.pullback(
        convolution, torch.ops.aten.threshold_backward(v, rectified, 0), route
    )


def _by_autograd(predictor: nn.Module, e: Tensor, *, differentiable: bool) -> tuple[Tensor, Pullback]:
    """A prediction with its own small graph, which lives as long as the pullback."""
    # The hooks keep what the graph saves as it is: within a checkpointed timestep it would be dropped, and computing
    # the pullback there would compute the timestep again.
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_same, _same):
        x = e if differentiable and e.requires_grad else e.detach().requires_grad_()
        p: Tensor = predictor(x)

    def pullback(v: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.set_grad_enabled(differentiable):
            cotangent = v.clone() if v.is_inference() else v
            return torch.autograd.grad(p, x, cotangent, retain_graph=True, create_graph=differentiable)[0]

    return (p if differentiable else p.detach()), pullback


def _same(tensor: Tensor) -> Tensor:
    return tensor


def flatten(module: nn.Module) -> list[nn.Module]:
    """The layers of nested Sequentials in order; [module] for anything else."""
    if type(module) is nn.Sequential and len(module) > 0:
        return [layer for child in module for layer in flatten(child)]
    return [module]


def _is_linear(layer: nn.Module) -> bool:
    match layer:
        case nn.ConvTranspose2d():
            return layer.padding_mode == "zeros"
        case nn.Conv2d():
            return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        case nn.Upsample():
            return layer.mode in _UPSAMPLE_ADJOINT
        case _:
            return type(layer) is nn.Identity


def _adjoint(layers: list[nn.Module], shape: tuple[int, ...], p: Tensor, v: Tensor) -> Tensor:
    """J^T v for a chain of linear layers, perhaps with a final ReLU whose output was p; shape is that of the input."""
    linear = layers
    if type(layers[-1]) is nn.ReLU:
        v = torch.ops.aten.threshold_backward(v, p, 0)
        linear = layers[:-1]
    shapes = [shape]
    for layer in linear[:-1]:
        shapes.append(_output_shape(layer, shapes[-1]))
    for layer, before in zip(reversed(linear), reversed(shapes), strict=True):
        v = _layer_adjoint(layer, before, v)
    return v


def _output_shape(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape (B, C, H, W) of what a linear layer makes of one; in closed form, since it is asked for at every update."""
    sides = shape[2:]
    match layer:
        case nn.ConvTranspose2d() | nn.Conv2d():
            assert not isinstance(layer.padding, str)
            reach = [
                d * (k - 1) - 2 * q for d, k, q in zip(layer.dilation, layer.kernel_size, layer.padding, strict=True)
            ]
            if isinstance(layer, nn.ConvTranspose2d):
                steps = zip(sides, layer.stride, reach, layer.output_padding, strict=True)
                return (shape[0], layer.out_channels, *((n - 1) * s + r + extra + 1 for n, s, r, extra in steps))
            windows = zip(sides, layer.stride, reach, strict=True)
            return (shape[0], layer.out_channels, *((n - r - 1) // s + 1 for n, s, r in windows))
        case nn.Upsample() if layer.size is not None:
            size = layer.size
            return (*shape[:2], *(size if isinstance(size, tuple) else (size, size)))
        case nn.Upsample():
            factor = layer.scale_factor
            assert factor is not None
            factors = factor if isinstance(factor, tuple) else (factor, factor)
            return (*shape[:2], *(int(n * f) for n, f in zip(sides, factors, strict=True)))
        case _:
            return shape


def _layer_adjoint(layer: nn.Module, shape: tuple[int, ...], v: Tensor) -> Tensor:
    """The adjoint of one linear layer; shape is that of its input."""
    match layer:
        case nn.ConvTranspose2d():
            assert not isinstance(layer.padding, str)
            return F.conv2d(v, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        case nn.Conv2d():
            assert not isinstance(layer.padding, str)
            size = [
                n - ((m - 1) * s - 2 * q + d * (k - 1) + 1)
                for n, m, s, q, d, k in zip(
                    shape[2:], v.shape[2:], layer.stride, layer.padding, layer.dilation, layer.kernel_size, strict=True
                )
            ]
            return F.conv_transpose2d(
                v, layer.weight, None, layer.stride, layer.padding, size, layer.groups, layer.dilation
            )
        case nn.Upsample() if torch.compiler.is_compiling():  # the operator below does not take symbolic sizes
            traced: Tensor = torch.func.vjp(layer, v.new_zeros(shape))[1](v)[0]
            return traced
        case nn.Upsample():
            scales: tuple[float | None, ...] = (None, None)
            if layer.scale_factor is not None and not layer.recompute_scale_factor:
                factor = layer.scale_factor
                scales = factor if isinstance(factor, tuple) else (factor, factor)
            corners = [bool(layer.align_corners)] if layer.mode == "bilinear" else []
            adjoint = _UPSAMPLE_ADJOINT[layer.mode]
            product: Tensor = adjoint(v, list(v.shape[2:]), list(shape), *corners, *scales)
            return product
        case _:
            return v
