"""How much memory a gradient through time takes, and whether to recompute instead of store."""

from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from pcbench.models.base import TemporalClassifier

# Of the memory that is free, the part that a gradient may take before timesteps are recomputed.
SHARE = 0.5


def stored_bytes(function: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of what a function computes, each storage counted once.

    Parameters and inputs that are kept are counted too: they are small beside the activations of a batch.
    """
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    del result
    return sum(seen.values())


def needed(model: TemporalClassifier, size: tuple[int, ...], timesteps: int) -> int:
    """Bytes that the gradient of the answer at `timesteps` needs for one image, without checkpointing.

    Measured on one image at no more than two updates and continued: each further timestep stores as much again.

    Args:
        model: in eval mode, parameters without gradients.
        size: (C, H, W) of the images.
        timesteps: the last timestep of the answer.
    """
    image = torch.full((1, *size), 0.5, device=model.mean.device, dtype=model.mean.dtype, requires_grad=True)
    with model.differentiated(checkpointing=False):
        if timesteps <= 2:
            return stored_bytes(lambda: model(image, timesteps=timesteps))
        one, two = (stored_bytes(lambda t=t: model(image, timesteps=t)) for t in (1, 2))  # type: ignore[misc]  # mypy cannot type a default
    return two + (timesteps - 2) * max(two - one, 0)


def free(device: torch.device) -> int:
    """Bytes of memory that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def wants_checkpointing(model: TemporalClassifier, size: tuple[int, ...], timesteps: int, images: int) -> bool:
    """Whether a gradient for so many images at once would take more than `SHARE` of the memory that is free."""
    if timesteps == 0 or not model.has_dynamics:
        return False
    try:
        return needed(model, size, timesteps) * images > SHARE * free(model.mean.device)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):  # not even what it takes to measure it
            return True
        raise


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # the CPU's allocator
