"""One training on several processes, as torchrun starts them; a single process is the case of world size 1."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from pcbench.errors import UserError


@dataclass(frozen=True)
class Processes:
    """The processes of a training.

    Attributes:
        rank: of this one; rank 0 writes files and shows progress.
        world: how many there are.
        device: of this one.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values.cpu()

    def agree(self, value: object) -> object:
        """The first process's value, in all of them."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


@contextmanager
def processes(device: str = "auto") -> Iterator[Processes]:
    """The processes that torchrun started (it sets RANK and WORLD_SIZE), or this one alone.

    Args:
        device: "auto", "cpu" or "cuda"; several processes take one GPU each.

    Raises:
        UserError: there is no such device, or fewer GPUs than processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device.partition(":")[0]
    if kind == "cuda" and local >= torch.cuda.device_count():
        raise UserError(f"device {device}: process {rank} needs GPU {local}, and there are {torch.cuda.device_count()}")
    if kind not in ("cpu", "cuda"):
        raise UserError(f"no device {device!r}; known: auto, cpu, cuda")
    own = torch.device(device if world == 1 and ":" in device else f"cuda:{local}" if kind == "cuda" else "cpu")
    if world == 1:
        yield Processes(0, 1, own)
        return
    if kind == "cuda":
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=timedelta(minutes=30))
    try:
        yield Processes(rank, world, own)
    finally:
        dist.destroy_process_group()
