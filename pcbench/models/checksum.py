"""What a network is, as bytes: digests over its parameters and buffers, and over the plain values beside them."""

import hashlib
from collections.abc import Iterator

import torch
from torch import nn


def checksum(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and values of all parameters and buffers.

    The same on every device and in every memory format; another one as soon as any number differs.
    """
    digest = hashlib.sha256()
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\x1f{value.dtype}\x1f{tuple(value.shape)}\x1f".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return digest.hexdigest()


def settings_checksum(model: nn.Module) -> str:
    """SHA-256 over the numbers, truth values and texts that the modules of a network have as attributes.

    Two networks of one source and with the same parameters may still differ in a gain or a number of steps that their
    `__init__` was given. What a network holds in other objects is not seen.
    """
    digest = hashlib.sha256()
    usual = set(vars(nn.Module()))
    for place, module in model.named_modules():
        for name, value in sorted(vars(module).items()):
            if name not in usual and all(isinstance(part, _PLAIN) for part in _parts(value)):
                digest.update(f"{place}.{name}={value!r}\x1f".encode())
    return digest.hexdigest()


_PLAIN = (bool, int, float, str, type(None))


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part)
    else:
        yield value
