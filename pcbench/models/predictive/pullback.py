"""A prediction together with its pullback: the product of a vector with the predictor's Jacobian, J^T v.

A predictor is taken layer by layer. Convolutions, upsampling and ReLU have closed forms that need no autograd graph: a
linear layer its adjoint, a ReLU its mask. They are written in differentiable functions, so that they can be
differentiated themselves. A layer of any other type goes through autograd with a small graph of its own, and so does a
subclass of these types, whose forward may do anything, and a predictor with hooks, which may change what layers return.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcbench.models.predictive import spectral
from pcbench.models.predictive.bilinear import Bilinear
from pcbench.models.predictive.spectral import DIRECT, Route
from pcbench.models.predictive.spectrum import taps_of
from pcbench.models.predictive.upconvolution import Upconvolution, is_upconvolution

Pullback = Callable[[Tensor], Tensor]
Predict = Callable[[Tensor], tuple[Tensor, Pullback]]
"""e, (B, C, H, W) -> the prediction p, and v -> J^T v at e. v has the form of p, J^T v that of e."""


def prepared(predictor: nn.Module, route: Route = DIRECT) -> Predict:
    """What computes predictions of a predictor, with their pullbacks.

    What follows from the weights alone is computed here, once: use it while the weights stay as they are (and, to be
    differentiated with respect to them, in the same graph), and prepare anew for the next unroll.

    Args:
        predictor: any module that maps (B, C, H, W) to the form of the layer below.
        route: of its transposed convolution, see `routed_layer`; others have none but the direct one.
    """
    layers = flatten(predictor)
    if _is_watched(predictor):
        return lambda e: _by_autograd(predictor, e)
    if route != DIRECT and (routed := routed_layer(predictor)) is not None:
        # what comes out is a view, which a ReLU must not overwrite
        return _chain([_routed(routed, route), *(_prepared_layer(layer, first=True) for layer in layers[1:])])
    parts: list[Predict] = []
    while layers:
        if len(layers) > 1 and is_upconvolution(layers[0], layers[1]):
            parts.append(_upconvolution(layers[0], layers[1]))
            layers = layers[2:]
            continue
        layer, layers = layers[0], layers[1:]
        if type(layer) is not nn.Identity:
            parts.append(_prepared_layer(layer, first=not parts))
    return _chain(parts)


def _chain(parts: list[Predict]) -> Predict:
    """One after the other; the pullbacks the other way round."""

    def both(e: Tensor) -> tuple[Tensor, Pullback]:
        p, pullbacks = e, []
        for part in parts:
            p, pullback = part(p)
            pullbacks.append(pullback)

        def pulled(v: Tensor) -> Tensor:
            for pullback in reversed(pullbacks):
                v = pullback(v)
            return v

        return p, pulled

    return both


def _is_watched(predictor: nn.Module) -> bool:
    """Whether more happens in a call than the classes of the layers say: hooks, or a forward of the layer's own."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        for module in predictor.modules()
    ) or any("forward" in vars(module) for module in predictor.modules())


def flatten(module: nn.Module) -> list[nn.Module]:
    """The layers of nested Sequentials in order; [module] for anything else."""
    if type(module) is nn.Sequential and len(module) > 0:
        return [layer for child in module for layer in flatten(child)]
    return [module]


def routed_layer(predictor: nn.Module) -> nn.ConvTranspose2d | None:
    """The layer of a predictor that routes are about: a transposed convolution with nothing behind it but a ReLU."""
    first, *rest = flatten(predictor)
    if taps_of(first) is None or [type(layer) for layer in rest] not in ([], [nn.ReLU]):
        return None
    assert isinstance(first, nn.ConvTranspose2d)
    return first


def _routed(layer: nn.ConvTranspose2d, route: Route) -> Predict:
    return lambda x: (spectral.forward(layer, x, route), lambda v: spectral.pullback(layer, v, route))


def _prepared_layer(layer: nn.Module, *, first: bool) -> Predict:
    """One layer; `first` where its input must not be overwritten, e.g. is the representation itself."""
    kind = type(layer)
    if kind is nn.ReLU:
        in_place = bool(getattr(layer, "inplace", False)) and not first
        return lambda x: _relu(x, in_place)
    if isinstance(layer, nn.ConvTranspose2d) and kind is nn.ConvTranspose2d and layer.padding_mode == "zeros":
        return lambda x: (layer(x), lambda v: _transposed_adjoint(layer, v))
    plain = isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, nn.Conv2d) and kind is nn.Conv2d and plain:
        return lambda x: (layer(x), lambda v, size=tuple(x.shape[2:]): _convolution_adjoint(layer, size, v))
    if isinstance(layer, nn.Upsample) and kind is nn.Upsample:
        if layer.mode == "bilinear":
            bilinear = Bilinear(layer)
            return lambda x: (bilinear(x), lambda v, size=tuple(x.shape[2:]): bilinear.adjoint(v, size))
        if layer.mode == "nearest":
            return lambda x: (layer(x), lambda v, shape=tuple(x.shape): _nearest_adjoint(layer, shape, v))
    return lambda x: _by_autograd(layer, x)


def _relu(x: Tensor, in_place: bool) -> tuple[Tensor, Pullback]:
    p = F.relu(x, inplace=in_place)
    return p, lambda v: v.masked_fill(p <= 0, 0)


def _upconvolution(upsample: nn.Module, convolution: nn.Module) -> Predict:
    assert isinstance(upsample, nn.Upsample)
    assert isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
    both = Upconvolution(upsample, convolution)
    return lambda x: (both(x), both.adjoint)


def _transposed_adjoint(layer: nn.ConvTranspose2d, v: Tensor) -> Tensor:
    assert not isinstance(layer.padding, str)
    return F.conv2d(v, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def _convolution_adjoint(layer: nn.Conv2d, size: tuple[int, ...], v: Tensor) -> Tensor:
    assert not isinstance(layer.padding, str)
    extra = [
        n - ((m - 1) * s - 2 * q + d * (k - 1) + 1)
        for n, m, s, q, d, k in zip(
            size, v.shape[2:], layer.stride, layer.padding, layer.dilation, layer.kernel_size, strict=True
        )
    ]
    return F.conv_transpose2d(v, layer.weight, None, layer.stride, layer.padding, extra, layer.groups, layer.dilation)


def _nearest_adjoint(layer: nn.Upsample, shape: tuple[int, ...], v: Tensor) -> Tensor:
    if torch.compiler.is_compiling():  # the operator below does not take symbolic sizes
        traced: Tensor = torch.func.vjp(layer, v.new_zeros(shape))[1](v)[0]
        return traced
    scales: tuple[float | None, ...] = (None, None)
    if layer.scale_factor is not None and not layer.recompute_scale_factor:
        factor = layer.scale_factor
        scales = factor if isinstance(factor, tuple) else (factor, factor)
    product: Tensor = torch.ops.aten.upsample_nearest2d_backward(v, list(v.shape[2:]), list(shape), *scales)
    return product


def _by_autograd(module: nn.Module, e: Tensor) -> tuple[Tensor, Pullback]:
    """A prediction with its own small graph, which lives as long as the pullback."""
    if not e.is_inference():
        return _graph(module, e, differentiable=torch.is_grad_enabled())
    with torch.inference_mode(False):  # autograd cannot see inference tensors
        return _graph(module, e.clone(), differentiable=False)


def _graph(module: nn.Module, e: Tensor, *, differentiable: bool) -> tuple[Tensor, Pullback]:
    # The hooks keep what the graph saves as it is: within a checkpointed timestep it would be dropped, and computing
    # the pullback there would compute the timestep again.
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_same, _same):
        x = e if differentiable and e.requires_grad else e.detach().requires_grad_()
        p: Tensor = _call(module, x.clone())  # a copy, because the module may overwrite it

    def pullback(v: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.set_grad_enabled(differentiable):
            cotangent = (v.clone() if v.is_inference() else v).to(p.dtype)
            if not p.requires_grad:  # it does not depend on anything
                return torch.zeros_like(x)
            return torch.autograd.grad(
                p, x, cotangent, retain_graph=True, create_graph=differentiable, materialize_grads=True
            )[0]

    return (p if differentiable else p.detach()), pullback


def _call(module: nn.Module, x: Tensor) -> Tensor:
    """module(x), also where the module was made in inference mode, whose tensors autograd refuses."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    copies = {name: tensor.clone() for name, tensor in tensors.items() if tensor.is_inference()}
    out: Tensor = torch.func.functional_call(module, copies, (x,)) if copies else module(x)
    return out


def _same(tensor: Tensor) -> Tensor:
    return tensor
