"""The choice between the direct convolution and products of spectra, for each predictor and direction.

A choice is made once, for one batch size, and then holds for every batch of whatever size: `choose_routes` sets it on
the network and returns it as a record (JSON), `use_routes` sets what a record says, in another worker or on another
day. What differs between two choices is rounding only, 1e-6 of the norm of a prediction in float32.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pcbench.errors import UserError, did_you_mean
from pcbench.models.predictive import spectral
from pcbench.models.predictive.network import PredictiveNet
from pcbench.models.predictive.pcoder import PCoder
from pcbench.models.predictive.pullback import routed_layer
from pcbench.models.predictive.spectral import DIRECT, kernels, spectrum_bytes
from pcbench.models.predictive.spectrum import Tiles, best_engine, can_pack, frequencies, packed_fault, taps_of

Mode = Literal["direct", "fft", "measured"]
Direction = Literal["forward", "pullback"]

_LARGEST = 40  # tile; beyond, the transforms cost more than the products save
_ROWS = 64  # of a product, at most: the fastest are from 32 on
_PER_BYTE = 8  # operations in the time in which a byte of the kernels is read
_TRANSFORM = 2  # the matrices of the transforms are small, and as much slower
_CLEAR = 2.0  # a ratio of seconds that needs no second look
_TURNS = 3
_PACKED = "oneDNN's product with packed kernels"


@dataclass(frozen=True)
class Choice:
    """What was chosen for one direction of one predictor.

    Attributes:
        pcoder: its number, from 1.
        direction: "forward" (the prediction) or "pullback" (its adjoint, for the error's gradient).
        tiles: None for the direct convolution.
        nbytes: of the transformed kernels; 0 without.
        operations: of the transforms and products, for the batch. Of the direct form where that was chosen.
        seconds, direct_seconds: of one call, where they were measured.
    """

    pcoder: int
    direction: Direction
    tiles: Tiles | None
    nbytes: int = 0
    operations: int = 0
    seconds: float | None = None
    direct_seconds: float | None = None


def choose_routes(network: PredictiveNet, batch: int, mode: Mode = "measured") -> dict[str, Any]:
    """Choose for all predictors of a network, and set it.

    A predictor is a candidate when it is a transposed convolution as `spectrum.taps_of` accepts it, perhaps with a
    ReLU, and the products of spectra take less than half of the direct form's operations. The kernels of all that are
    chosen fit into `spectral.kernels.limit` together; where the best tiles would not, smaller ones are taken, or none.

    Args:
        network: in the type and on the device that it will run in; likewise the autocast around this call. Within
            one, pullbacks are computed in its type, so there is none to choose for.
        batch: images, as the batches will have.
        mode: "direct": none. "fft": by counting operations, which gives the same choice on every machine with the same
            engine. "measured": of these, those that are faster here and now.

    Returns:
        The record: mode, batch, device, threads, limit, fallback (why the products do not come from the fastest
        engine for the device; None where they do), and the fields of a `Choice` for each candidate.

    Raises:
        UserError: an unknown mode, or no image.
    """
    if mode not in get_args(Mode):
        raise UserError(f"mode is {mode!r}; {did_you_mean(str(mode), get_args(Mode))}")
    if batch < 1:
        raise UserError(f"batch is {batch}; a choice is made for at least one image")
    reference = next(network.parameters(), torch.empty(0))
    directions: tuple[Direction, ...] = get_args(Direction)
    if torch.is_autocast_enabled(reference.device.type):
        directions = ("forward",)
    choices: list[Choice] = []
    if mode != "direct":
        for number, layer, shape in _candidates(network):
            for direction in directions:
                room = kernels.limit - sum(choice.nbytes for choice in choices)
                choice = _planned(number, direction, layer, shape, batch, room)
                choices.append(_measured(choice, layer, shape, batch) if mode == "measured" else choice)
    record = {
        "mode": mode,
        "batch": batch,
        "device": reference.device.type,
        "threads": torch.get_num_threads(),
        "limit": kernels.limit,
        "fallback": _fallback(reference) if any(choice.tiles is not None for choice in choices) else None,
        "choices": [asdict(choice) for choice in choices],
    }
    use_routes(network, record)
    return record


def use_routes(network: PredictiveNet, record: Mapping[str, Any]) -> None:
    """Set what a record of `choose_routes` says; what it does not name takes the direct convolution.

    Raises:
        UserError: the record is of another network, or of a PyTorch whose engine this one does not have.
    """
    pcoders = _pcoders(network)
    routes = [DIRECT] * len(pcoders)
    for entry in record["choices"]:
        n = int(entry["pcoder"]) - 1
        if not 0 <= n < len(routes):
            raise UserError(f"the choice of routes names PCoder {n + 1}; the network has {len(routes)}")
        tiles = entry["tiles"]
        if tiles is not None:
            if tiles["engine"] == "packed" and (fault := packed_fault()) is not None:
                raise UserError(
                    f"the choice of routes is of a machine with another PyTorch: here {_PACKED} fails: {fault}"
                )
            routes[n] = replace(routes[n], **{str(entry["direction"]): Tiles(**tiles)})
    for n, (pcoder, route) in enumerate(zip(pcoders, routes, strict=True)):
        if route != DIRECT and routed_layer(pcoder.predictor) is None:
            raise UserError(f"the choice of routes is of another network: PCoder {n + 1} has no such predictor")
    for pcoder, route in zip(pcoders, routes, strict=True):
        pcoder.route = route


def _fallback(reference: Tensor) -> str | None:
    fault = packed_fault() if can_pack(reference.dtype, reference.device) else None
    return None if fault is None else f"torch.bmm, since {_PACKED} fails: {fault}"


def _pcoders(network: PredictiveNet) -> list[PCoder]:
    return [pcoder for pcoder in network.pcoders if isinstance(pcoder, PCoder)]


def _candidates(network: PredictiveNet) -> list[tuple[int, nn.ConvTranspose2d, tuple[int, int]]]:
    """(number of the PCoder, its layer, height and width of its representation) where there is one to choose for."""
    layers = [routed_layer(pcoder.predictor) for pcoder in _pcoders(network)]
    if not any(layers):
        return []
    reference = next(network.parameters())
    x = torch.zeros(1, *network.config.input_size, device=reference.device, dtype=reference.dtype)
    with torch.no_grad():
        shapes = [e.shape[2:] for e in next(iter(network.unroll(x, 0))).representations]
    return [
        (n + 1, layer, (int(shape[0]), int(shape[1])))
        for n, (layer, shape) in enumerate(zip(layers, shapes, strict=True))
        if layer is not None and layer.weight.dtype in (torch.float32, torch.float64)
    ]


def _planned(
    number: int, direction: Direction, layer: nn.ConvTranspose2d, shape: tuple[int, int], batch: int, room: int
) -> Choice:
    """The tiles that cost least, if they cost less than half of the direct form; by counting."""
    taps = taps_of(layer)
    assert taps is not None
    direct = 2 * batch * shape[0] * shape[1] * layer.weight.numel()
    engine = best_engine(layer.weight.dtype, layer.weight.device)
    best, least = Choice(number, direction, None, 0, direct), direct / 2
    most = max(one.count for one in taps)
    for parts in range(1, max(shape) + 1):
        size = -(-max(shape) // parts) + most - 1
        if size > _LARGEST or (parts > 1 and size == -(-max(shape) // (parts - 1)) + most - 1):
            continue
        tall, wide = (-(-n // (size - one.count + 1)) for n, one in zip(shape, taps, strict=True))
        total = 2 * batch * tall * wide
        rows = -(-total // -(-total // _ROWS))
        nbytes = spectrum_bytes(layer, size)
        product, transforms = _operations(layer, shape, size, batch, tall, wide, direction)
        cost = product + _TRANSFORM * transforms + _PER_BYTE * nbytes
        if nbytes <= room and cost < least:
            tiles = Tiles(size, rows + rows % 2, engine)
            best, least = Choice(number, direction, tiles, nbytes, product + transforms), cost
    return best


def _operations(
    layer: nn.ConvTranspose2d,
    shape: tuple[int, int],
    size: int,
    batch: int,
    tall: int,
    wide: int,
    direction: Direction,
) -> tuple[int, int]:
    """Operations (two per multiply-add) of the products, and of the transforms."""
    phases = layer.stride[0] * layer.stride[1]
    ends = layer.in_channels, phases * layer.out_channels
    inputs, outputs = ends if direction == "forward" else ends[::-1]
    height, bins, tiles = shape[0], size // 2 + 1, batch * tall * wide
    product = 8 * tiles * frequencies(size) * inputs * outputs
    kept = -(-height // tall)
    across = 2 * batch * wide * height * size * 2 * bins * inputs
    down = 2 * tiles * (2 * size) ** 2 * bins * inputs
    up = 2 * tiles * 2 * kept * 2 * size * bins * 2 * outputs
    back = 2 * batch * height * shape[1] * 4 * bins * outputs
    return product, across + down + up + back


def _measured(choice: Choice, layer: nn.ConvTranspose2d, shape: tuple[int, int], batch: int) -> Choice:
    """The choice if it is the faster one here, else the direct form, with the seconds of both."""
    if choice.tiles is None:
        return choice
    forward = choice.direction == "forward"
    channels, s = (layer.in_channels, 1) if forward else (layer.out_channels, layer.stride[0])
    like = layer.weight
    x = torch.ones(batch, channels, s * shape[0], s * shape[1], dtype=like.dtype, device=like.device)
    x = x.contiguous(memory_format=torch.channels_last)
    route = replace(DIRECT, **{choice.direction: choice.tiles})
    compute = spectral.forward if forward else spectral.pullback
    with torch.inference_mode(), torch.autocast(like.device.type, enabled=False):
        _seconds(lambda: compute(layer, x, route), x)  # makes the kernels
        ours, theirs = _turns([lambda: compute(layer, x, route), lambda: compute(layer, x, DIRECT)], x)
    if ours < theirs:
        return replace(choice, seconds=ours, direct_seconds=theirs)
    kernels.forget(layer)
    direct = 2 * batch * shape[0] * shape[1] * layer.weight.numel()
    return Choice(choice.pcoder, choice.direction, None, 0, direct, seconds=ours, direct_seconds=theirs)


def _turns(works: Sequence[Callable[[], Tensor]], x: Tensor) -> list[float]:
    """Seconds of each, the least of some turns; one is enough where the first is faster by far."""
    least = [float("inf")] * len(works)
    for _ in range(_TURNS):
        least = [min(before, _seconds(work, x)) for before, work in zip(least, works, strict=True)]
        if least[0] * _CLEAR < least[1]:
            break
    return least


def _seconds(work: Callable[[], Tensor], x: Tensor) -> float:
    if x.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
