"""What the user leaves open or names: device, batch size, worker processes."""

import os

import torch

from pcbench.errors import UserError, did_you_mean


def find_device(name: str) -> torch.device:
    """The device of a name: "auto", "cpu" or "cuda". Raises UserError when it is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"no device {name!r}; {did_you_mean(name, ['auto', 'cpu', 'cuda'])}")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError("device cuda is not there (pcbench doctor says what is); use --device cpu or auto")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def batch_size_of(value: int | str) -> int | None:
    """The number of a --batch-size; None for auto. Raises UserError."""
    if value == "auto":
        return None
    try:
        size = int(value)
    except ValueError:
        size = 0
    if size < 1:
        raise UserError(f"batch size is {value!r}; it is a number of images, 1 or more, or auto")
    return size


def workers_of(value: int | None, device: torch.device) -> int:
    """The number of --workers, or what suits the machine. Raises UserError."""
    if value is not None:
        if value < 0:
            raise UserError(f"workers is {value}; it counts processes, so 0 or more")
        return value
    cores = os.cpu_count() or 1
    return min(32, max(1, cores - 1 if device.type == "cuda" else cores // 2))
