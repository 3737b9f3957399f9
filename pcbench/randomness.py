"""Random numbers that depend on what they are for, and on nothing else.

Every stream is keyed by its purpose (seed, image id, perturbation, severity, ...), so that a result cannot depend on
the batch, the order, the number of workers or a resumed run. All streams come from here: noise, initial states and
parameters, attacks; corruptions draw by counters from the same keys (pcbench.perturbations.corruptions.draws).
"""

import copy
import hashlib
import operator
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import SupportsIndex

import numpy as np
import torch
from torch import nn

from pcbench.errors import UserError

Part = str | float | SupportsIndex
"""Of a stream's name. Whole numbers of any type that are equal are the same part, and so are floats; 1 and 1.0 not."""

_WORDS = 624  # of the state of MT19937, torch's generator on the CPU
_FIRST = (
    3  # the state that torch hands out, seen as 64-bit integers: seed, two flags, next, the words, Gaussian leftovers
)
_state = torch.Generator().manual_seed(0).get_state()  # one, written to anew for each stream
_words = _state.numpy().view(np.int64)[_FIRST : _FIRST + _WORDS]
_lock = threading.Lock()
if _words[0] != 0 or _words[1] != 1:  # MT19937's initialisation by the seed 0
    raise ImportError("this version of torch keeps the state of its CPU generator in another form than pcbench knows")


def key(*parts: Part) -> int:
    """A 63-bit key for a stream: equal parts give equal keys, on every machine and in every process.

    >>> key(0, "img", "gaussian_noise", 3) == key(0, "img", "gaussian_noise", np.int64(3))
    True
    >>> key(0, "ab", "c") == key(0, "a", "bc")
    False

    Raises:
        UserError: a part is a bool, which would pass for the number 0 or 1, or neither text nor a number.
    """
    text = "\x1f".join(f"{type(plain).__name__[0]}{plain!r}" for plain in map(_plain, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _plain(part: Part) -> str | int | float:
    """The part as Python's own type: other libraries' numbers do not print alike, nor in all of their versions."""
    if isinstance(part, str):
        return str(part)
    if not isinstance(part, bool | np.bool_):
        if isinstance(part, SupportsIndex):  # every type of whole number, arrays and tensors of one included
            try:
                return operator.index(part)
            except TypeError:  # a tensor or array of something else
                pass
        if isinstance(part, Real):
            return float(part)
    raise UserError(f"{part!r} cannot name a random stream; a seed is a whole number")


def torch_generator(*parts: Part) -> torch.Generator:
    """A CPU generator for the stream that the parts name. Draw on the CPU and move: devices draw differently."""
    generator = torch.Generator()
    _seed(generator, key(*parts))
    return generator


def numpy_generator(*parts: Part) -> np.random.Generator:
    """A NumPy (Philox) generator for the stream that the parts name."""
    return np.random.Generator(np.random.Philox(key(*parts)))


def normal_like(images: torch.Tensor, seed: int, ids: list[str], *purpose: Part) -> torch.Tensor:
    """Standard normal noise of the shape of a batch, each image's drawn from its own stream.

    Args:
        images: (B, ...) of any device and floating dtype; gives shape, device and dtype only.
        seed: the run's seed.
        ids: B stable image ids.
        purpose: what the noise is for, e.g. the condition's name and severity.

    Returns:
        (B, ...) on the images' device. Image i's values depend on (seed, ids[i], purpose) alone.
    """
    drawn = [torch.randn(images.shape[1:], generator=torch_generator(seed, name, *purpose)) for name in ids]
    return torch.stack(drawn).to(images)


@contextmanager
def global_stream(*parts: Part) -> Iterator[None]:
    """Within, what draws from torch's global generator on the CPU draws from the stream; afterwards it is as before.

    For code that takes no generator, such as torch.nn's initialisations. Generators of devices are left alone, so what
    is drawn on a device does not follow the stream: draw on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        _seed(torch.default_generator, key(*parts))
        yield


def reset_parameters(module: nn.Module, *parts: Part) -> None:
    """Draw the parameters of every layer anew, as torch.nn does, from the stream that the parts name.

    Drawn on the CPU wherever the module is, so that every device starts from the same values; global generators stay
    as they are.

    Args:
        module: changed in place. Parameters of layers without `reset_parameters` keep their values.
        parts: name of the stream.
    """
    twin = copy.deepcopy(module).cpu().to(memory_format=torch.contiguous_format)  # filled in the order of memory
    with global_stream(*parts), torch.no_grad():
        for layer in twin.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
        for tensor, drawn in zip(_tensors(module), _tensors(twin), strict=True):
            tensor.copy_(drawn)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _seed(generator: torch.Generator, stream: int) -> None:
    """Put a CPU generator into the state whose words are drawn from the key, all bits of it.

    `manual_seed` would do, but MT19937 takes 32 bits of what it is given: among the streams of 100,000 images two would
    be the same.
    """
    drawn = np.random.Philox(stream).random_raw(_WORDS // 2).view(np.uint32)
    with _lock:
        _words[:] = drawn
        generator.set_state(_state)
