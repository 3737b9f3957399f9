"""Fold batch normalisation into the convolution before it: at evaluation both are one linear map."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn


@dataclass(frozen=True)
class Folding:
    """A normalisation that was merged into a convolution, and all that it takes to put both back.

    Attributes:
        network: that both are in.
        path: of the normalisation.
        norm: the normalisation.
        convolution: that it was merged into.
        weight, bias: of the convolution, before.
    """

    network: nn.Module
    path: str
    norm: nn.Module
    convolution: nn.Conv2d
    weight: nn.Parameter
    bias: nn.Parameter | None

    def undo(self) -> None:
        """Put both back as they were."""
        self.network.set_submodule(self.path, self.norm)
        self.convolution.weight, self.convolution.bias = self.weight, self.bias


def fold_batch_norms(network: nn.Module, keep: Collection[nn.Module] = ()) -> list[Folding]:
    """Merge each batch normalisation that directly follows a convolution into it, in place.

    Logits stay the same up to rounding, and a pass over the activations is saved for each. The normalisation's module
    stays at its path as what is left of it: nothing, or the activation that timm has put into it. Only layers of known
    types are touched, a subclass being another type: it may compute something of its weights.

    Args:
        network: a trained network, as it will be evaluated. One that torch.fx cannot trace is left as it is, as is
            a convolution whose output something else reads too, that runs more than once, or that has hooks.
        keep: modules whose output has to stay what it is.

    Returns:
        What was folded, in order.
    """
    try:
        graph = _Tracer().trace(network)
    except Exception:  # torch.fx raises what the network's own code raises on symbolic values
        return []
    modules = dict(network.named_modules(remove_duplicate=False))
    calls = Counter(modules[str(node.target)] for node in graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    done = []
    for node in graph.nodes:
        if node.op != "call_module" or len(node.args) != 1 or node.kwargs or not isinstance(node.args[0], fx.Node):
            continue
        source = node.args[0]
        norm = modules[str(node.target)]
        convolution = modules[str(source.target)] if source.op == "call_module" else None
        if convolution is None or convolution in keep or calls[convolution] > 1 or calls[norm] > 1:
            continue
        if not _is(convolution, _CONVOLUTIONS) or not (_plain(convolution) and _plain(norm)):
            continue
        rest = _what_follows(norm)
        if rest is None or len(source.users) > 1 or read & {str(node.target), str(source.target)}:
            continue
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        done.append(
            Folding(network, str(node.target), norm, convolution, convolution.weight, convolution.bias)  # type: ignore[arg-type]  # torch types them as tensors
        )
        _fold(convolution, norm)
        network.set_submodule(str(node.target), rest)
    return done


# Exact types, by name where they are those of a library that need not be loaded. Conv2dSame pads and then convolves.
_CONVOLUTIONS = ("torch.nn.modules.conv.Conv2d", "timm.layers.conv2d_same.Conv2dSame")
_NORMALISATIONS = ("torch.nn.modules.batchnorm.BatchNorm2d",)
_WITH_ACTIVATION = ("timm.layers.norm_act.BatchNormAct2d",)


def _is(module: nn.Module, types: Collection[str]) -> bool:
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}" in types


def _plain(module: nn.Module) -> bool:
    """Whether calling the module runs its class's `forward` and nothing else, on weights that are its own."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return not any(hooks) and "forward" not in vars(module)


class _Tracer(fx.Tracer):
    """Takes every convolution and normalisation as one call, whatever library its class is from."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether to call the module as it is."""
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _what_follows(norm: nn.Module) -> nn.Module | None:
    """What a normalisation does after normalising, if that is known; None for anything that cannot be folded."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None or norm.training:
        return None
    if _is(norm, _NORMALISATIONS):
        return nn.Identity()
    if not _is(norm, _WITH_ACTIVATION):
        return None
    parts: list[Any] = [getattr(norm, name, None) for name in ("drop", "act")]
    if not all(isinstance(part, nn.Module) for part in parts):
        return None
    kept = [part for part in parts if not isinstance(part, nn.Identity)]
    return kept[0] if len(kept) == 1 else nn.Sequential(*kept)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give the convolution the weights and bias with which it does both."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    with torch.no_grad():
        scale = (variance.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        bias = -mean.double() if convolution.bias is None else convolution.bias.double() - mean.double()
        bias = bias * scale
        if norm.bias is not None:
            bias = bias + norm.bias.double()
        weight: Tensor = convolution.weight
        trained = weight.requires_grad
        folded = weight.double() * scale[:, None, None, None]
        convolution.weight = nn.Parameter(folded.to(weight), requires_grad=trained)
        convolution.bias = nn.Parameter(bias.to(weight), requires_grad=trained)
