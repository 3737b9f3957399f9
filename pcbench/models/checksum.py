"""What a network is, as bytes: a digest over its parameters and buffers."""

import hashlib

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
