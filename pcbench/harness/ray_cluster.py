"""What a run asks of Ray, what fits on the machines that there are, and the connection to them."""

import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from pcbench.errors import RunError, UserError
from pcbench.extras import require

_STARTS = 3
_REACHED = 10.0  # seconds
_HEAD = (
    "--ray-address is HOST:PORT of a cluster's head as its machines know it, or auto; a cluster with tokens wants "
    "RAY_AUTH_MODE=token"
)


@dataclass(frozen=True)
class Cluster:
    """What a run asks of Ray. Decides nothing about results.

    Attributes:
        address: of a running cluster, "auto" for the one that this machine belongs to, None for one of this machine
            alone, that lasts as long as the run.
        workers: number of them; None for as many as fit.
        cpus: that Ray reserves for each; None for an equal share.
        gpus: that Ray reserves for each, up to 1; None for one, or none on the CPU.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float | None = None
    gpus: float | None = None

    def check(self, device: torch.device) -> None:
        """Raises UserError for what no cluster has, and when Ray is not installed."""
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--ray-workers is {self.workers}; it counts processes that hold the models, so 1 or more")
        if self.cpus is not None and not (math.isfinite(self.cpus) and self.cpus > 0):
            raise UserError(f"--cpus-per-worker is {self.cpus:g}; it is a number of cores above 0")
        if self.gpus is not None and not 0 < self.gpus <= 1:
            raise UserError(f"--gpus-per-worker is {self.gpus:g}; it is above 0 and at most 1: 0.5 lets two share one")
        if self.gpus is not None and device.type != "cuda":
            raise UserError("--gpus-per-worker is for CUDA devices, and this run is on the CPU; leave it out")
        if self.address is not None and "://" in self.address:
            raise UserError(f"no Ray cluster at {self.address!r}: pcbench runs on one of its machines; {_HEAD}")
        require("ray", "ray", "--engine ray")

    def words(self) -> list[str]:
        """The options of a command that ask for it."""
        values = {
            "--ray-address": self.address,
            "--ray-workers": self.workers,
            "--cpus-per-worker": self.cpus,
            "--gpus-per-worker": self.gpus,
        }
        return ["--engine", "ray", *(f"{name}={value}" for name, value in values.items() if value is not None)]


@dataclass(frozen=True)
class Crew:
    """Workers as Ray will place them: how many, and what is reserved for each.

    Attributes:
        sharing: how many share the memory of a device, at most.
        far: whether there are other machines than this one.
    """

    workers: int
    cpus: float
    gpus: float
    sharing: int
    far: bool

    def processes(self, device: torch.device) -> int:
        """How many processes each worker has to perturb images, besides its own."""
        cores = int(self.cpus)
        return min(32, max(0, cores - 1 if device.type == "cuda" else cores // 2))

    def recorded(self) -> dict[str, object]:
        """What run.json says about it."""
        return {
            "engine": "ray",
            "ray_workers": self.workers,
            "cpus_per_worker": self.cpus,
            "gpus_per_worker": self.gpus,
        }


@contextmanager
def connected(cluster: Cluster, device: torch.device) -> Iterator[Crew]:
    """Connect to the cluster, or start one, until the context ends. Within a connection of the caller's, use that.

    Raises:
        UserError: there is no such cluster, the caller is connected to one already, or the workers do not fit it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # asked for by nobody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")  # its warnings would fill the terminal
    import ray

    mine = not ray.is_initialized()
    if not mine and cluster.address not in (None, "auto"):
        raise UserError(f"this process is connected to Ray already; leave out the address {cluster.address!r}")
    if mine:
        before = signal.getsignal(signal.SIGTERM)
        _connect(cluster.address)
        if signal.getsignal(signal.SIGTERM) is not before:  # Ray takes it; the command's own ends a run in order
            signal.signal(signal.SIGTERM, before)
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield crew_of(cluster, device, [(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes])
    finally:
        if mine:
            ray.shutdown()


def _connect(address: str | None) -> None:
    import ray

    host, colon, port = (address or "").rpartition(":")
    if colon:
        try:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=_REACHED).close()
        except (OSError, ValueError, OverflowError) as error:
            raise UserError(f"no Ray cluster at {address!r} ({error}); {_HEAD}") from None
    for attempt in range(1, _STARTS + 1):
        try:
            if address is None:  # "local", because None would mean whatever the environment names
                ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            else:
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # Ray raises plain Exceptions, too
            ray.shutdown()
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if address is not None:
                raise UserError(f"no Ray cluster at {address!r} ({reason}); {_HEAD}") from None
            if attempt == _STARTS:  # its parts wait for each other some seconds only, too few on a busy machine
                raise RunError(f"Ray does not start on this machine: {reason}") from None


def crew_of(cluster: Cluster, device: torch.device, nodes: Sequence[tuple[float, float]]) -> Crew:
    """What fits on machines with these numbers of (CPUs, GPUs).

    Raises:
        UserError: not even one worker fits, or not as many as are asked for.

    >>> crew_of(Cluster(gpus=0.5), torch.device("cuda"), [(64.0, 8.0)])
    Crew(workers=16, cpus=4.0, gpus=0.5, sharing=2, far=False)
    >>> crew_of(Cluster(workers=3), torch.device("cpu"), [(4.0, 0.0), (4.0, 0.0)])
    Crew(workers=3, cpus=2.0, gpus=0.0, sharing=2, far=True)
    """
    gpus = 0.0 if device.type == "cpu" else cluster.gpus or 1.0
    on_gpus = [int(there) * int(1 / gpus) if gpus else sys.maxsize for _, there in nodes]

    def fits(cpus: float) -> list[int]:
        return [min(int(there / cpus), most) for (there, _), most in zip(nodes, on_gpus, strict=True)]

    wanted = cluster.workers or (sum(on_gpus) if gpus else None)
    shares = range(int(max(there for there, _ in nodes)), 0, -1)
    cpus = cluster.cpus
    if cpus is None and wanted is not None:
        cpus = float(next((share for share in shares if sum(fits(share)) >= max(1, wanted)), 1))
    elif cpus is None:
        cpus = float(torch.get_num_threads())
    room = sum(fits(cpus))
    workers = cluster.workers or room
    if not 0 < workers <= room:
        each = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        there = " + ".join(f"{cpu:g} CPUs, {gpu:g} GPUs" for cpu, gpu in nodes)
        raise UserError(
            f"{max(1, workers)} Ray workers of {each} do not fit the cluster ({there}), {room} do; ask for fewer "
            "--ray-workers, or less in --cpus-per-worker or --gpus-per-worker"
        )
    return Crew(workers, cpus, gpus, min(max(fits(cpus)), workers) if not gpus else int(1 / gpus), len(nodes) > 1)
