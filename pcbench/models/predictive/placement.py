"""Where to put PCoders in a network that nobody has written a configuration for."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.models.predictive.config import HyperparametersTable, PCoderTable, PredictiveConfig, read_config
from pcbench.models.predictive.cut import find_modules
from pcbench.models.predictive.pcoder import default_predictor

_Size = tuple[int, int]


class _Call:
    """One call of one module in the probe pass."""

    def __init__(self, path: str, start: int, x: Tensor) -> None:
        self.path = path
        self.start = start
        self.end = -1
        self.x = x
        self.out: Tensor | None = None


def automatic_config(
    backbone: nn.Module,
    input_size: tuple[int, int, int],
    hyperparameters: HyperparametersTable | None = None,
    name: str = "PredictiveNet",
) -> PredictiveConfig:
    """A configuration with a PCoder wherever the spatial size is about to shrink, and default predictors.

    One image of noise is sent through. Where a module takes one size and gives another in a single step (a strided
    convolution, a pooling, a stage of a residual network), the module that made its input gets a PCoder. A module that
    contains several such steps is looked into. VGG16 gets the published places.

    Args:
        backbone: maps (B, C, H, W) to logits.
        input_size: (C, H, W).
        hyperparameters: of every PCoder; None for 0.8, 0.1 and 0.01, the values of the published experiments.
        name: of the configuration.

    Raises:
        UserError: the network does not take that input, or the spatial size shrinks nowhere.
    """
    calls, image = _record(backbone, input_size)
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.path] = counts.get(call.path, 0) + 1
    places: list[_Call] = []
    for call in _single_steps(calls):
        made = [
            other
            for other in calls
            if other.out is not None and counts[other.path] == 1 and 0 <= other.end < call.start and other.path
        ]
        same = [other for other in made if other.out is call.x] or [
            other for other in made if _size(other.out) == _size(call.x)
        ]
        if call.x is image or not same or _size(call.x) == (1, 1):  # nothing spatial is left after global pooling
            continue
        place = max(same, key=lambda other: other.end)
        if place not in places:
            places.append(place)
    if not places:
        raise UserError("the spatial size shrinks nowhere inside the network; write a configuration (pcbench predify)")
    ordered = sorted(places, key=lambda place: place.end)
    return _config([(place.path, _shape(place.out)) for place in ordered], input_size, hyperparameters, name)


def explicit_config(
    backbone: nn.Module,
    input_size: tuple[int, int, int],
    modules: Sequence[str],
    hyperparameters: HyperparametersTable | None = None,
    name: str = "PredictiveNet",
) -> PredictiveConfig:
    """A configuration with default predictors and a PCoder at each named module. See `automatic_config`."""
    named = read_config({"pcoders": [{"module": module} for module in modules]})
    paths = find_modules(backbone, [pcoder.path for pcoder in named.pcoders])
    calls, _ = _record(backbone, input_size)
    shapes = {call.path: _shape(call.out) for call in calls if call.out is not None}
    for path in paths:
        if path not in shapes:
            raise UserError(f"module {path!r} is not called, or returns no tensor; choose another")
    return _config([(path, shapes[path]) for path in paths], input_size, hyperparameters, name)


def _config(
    places: Sequence[tuple[str, tuple[int, ...]]],
    input_size: tuple[int, int, int],
    hyperparameters: HyperparametersTable | None,
    name: str,
) -> PredictiveConfig:
    """A configuration with default predictors, from paths of modules and the shapes (C, H, W) of their outputs."""
    table = hyperparameters or HyperparametersTable(feedforward=0.8, feedback=0.1, pc=0.01)
    below: tuple[int, ...] = input_size
    pcoders = []
    for path, shape in places:
        pcoders.append(
            PCoderTable(module=_written(path), predictor=default_predictor(shape, below), hyperparameters=table)
        )
        below = shape
    return PredictiveConfig(name=name, gradient_scaling=True, input_size=input_size, pcoders=tuple(pcoders))


def _shape(out: Tensor | None) -> tuple[int, ...]:
    assert out is not None
    return tuple(out.shape[1:])


def _record(backbone: nn.Module, input_size: tuple[int, int, int]) -> tuple[list[_Call], Tensor]:
    """The calls of all modules that map one image-like tensor to a tensor, in the order in which they begin."""
    calls: list[_Call] = []
    open_calls: dict[nn.Module, list[_Call]] = {}
    clock = iter(range(10**9))
    handles = []

    def enter(path: str, module: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            call = _Call(path, next(clock), inputs[0])
            calls.append(call)
            open_calls.setdefault(module, []).append(call)

    def leave(module: nn.Module, inputs: tuple[object, ...], out: object) -> None:
        if open_calls.get(module):
            call = open_calls[module].pop()
            call.end = next(clock)
            call.out = out if isinstance(out, Tensor) else None

    for path, module in backbone.named_modules():
        handles.append(module.register_forward_pre_hook(lambda m, inputs, path=path: enter(path, m, inputs)))
        handles.append(module.register_forward_hook(leave))
    reference = next(backbone.parameters(), torch.empty(0))
    image = torch.zeros(1, *input_size, device=reference.device, dtype=reference.dtype)
    training = backbone.training
    try:
        with torch.no_grad():
            backbone.eval()(image)
    except RuntimeError as error:
        raise UserError(f"the network does not take inputs {list(input_size)}: {str(error).splitlines()[0]}") from None
    finally:
        backbone.train(training)
        for handle in handles:
            handle.remove()
    return calls, image


def _single_steps(calls: list[_Call]) -> list[_Call]:
    """The outermost calls that change the spatial size in one step."""
    steps = []
    inside_until = -1
    for call in calls:
        before, after = _size(call.x), _size(call.out)
        shrinks = before is not None and (after is None or after[0] * after[1] < before[0] * before[1])
        if call.start < inside_until:
            continue
        if not shrinks:
            if before is not None and before == after:  # nothing changes across it; layouts may change within
                inside_until = call.end
            continue
        children = [other for other in calls if call.start < other.start and other.end < call.end]
        direct = [
            other
            for other in children
            if not any(third.start < other.start and other.end < third.end for third in children)
        ]
        between = {_size(other.out) for other in direct} - {before, after, None}
        if call.path and not between:
            steps.append(call)
            inside_until = call.end
    return steps


def _size(x: Tensor | None) -> _Size | None:
    """(height, width) of an image-like tensor; None for anything else, e.g. flattened features."""
    return (int(x.shape[2]), int(x.shape[3])) if x is not None and x.ndim == 4 else None


def _written(path: str) -> str:
    """A module's path as configuration files have it: "features[3]"."""
    parts = path.split(".")
    return "".join(f"[{part}]" if part.isdigit() else ("." if i else "") + part for i, part in enumerate(parts))
