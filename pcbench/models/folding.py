"""Fold batch normalisation into the convolution before it: at evaluation both are one linear map."""

from collections import Counter
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx, nn


def fold_batch_norms(network: nn.Module, keep: Collection[nn.Module] = ()) -> int:
    """Merge each batch normalisation that directly follows a convolution into it, in place.

    Logits stay the same up to rounding, and a pass over the activations is saved for each. The normalisation's module
    stays at its path as what is left of it: nothing, or the activation that timm has put into it.

    Args:
        network: a trained network, as it will be evaluated. One that torch.fx cannot trace is left as it is, as is
            a convolution whose output something else reads too, or that runs more than once.
        keep: modules whose output has to stay what it is.

    Returns:
        How many were folded.
    """
    try:
        graph = _Tracer().trace(network)
    except Exception:  # torch.fx raises what the network's own code raises on symbolic values
        return 0
    modules = dict(network.named_modules(remove_duplicate=False))
    calls = Counter(modules[str(node.target)] for node in graph.nodes if node.op == "call_module")
    folded = 0
    for node in graph.nodes:
        if node.op != "call_module" or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
            continue
        source = node.args[0]
        norm = modules[str(node.target)]
        convolution = modules[str(source.target)] if source.op == "call_module" else None
        if not isinstance(convolution, nn.Conv2d) or convolution in keep or calls[convolution] > 1 or calls[norm] > 1:
            continue
        rest = _what_follows(norm)
        if rest is None or len(source.users) > 1 or convolution._forward_hooks or norm._forward_hooks:
            continue
        assert isinstance(norm, nn.BatchNorm2d)
        _fold(convolution, norm)
        network.set_submodule(str(node.target), rest)
        folded += 1
    return folded


class _Tracer(fx.Tracer):
    """Takes every convolution and normalisation as one call, whatever library its class is from."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether to call the module as it is."""
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _what_follows(norm: nn.Module) -> nn.Module | None:
    """What a normalisation does after normalising, if that is known; None for anything that cannot be folded."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return None
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    parts: list[Any] = [getattr(norm, name, None) for name in ("drop", "act")]  # timm's BatchNormAct2d
    if type(norm).__name__ != "BatchNormAct2d" or not all(isinstance(part, nn.Module) for part in parts):
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
