"""The engine for many processes or machines: groups of cells as tasks of Ray workers that keep the models loaded."""

import logging
import math
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pcbench.errors import RunError, UserError
from pcbench.harness.evaluate import Finished
from pcbench.harness.images import Images, View
from pcbench.harness.local import Beat, Observer, Settings
from pcbench.harness.plan import Group, Plan

_LOSSES = 3  # times that a group is given again before the run gives up
_PATIENCE = 600.0  # seconds without any worker having started
_STARTS = 3
_HEAD = "--ray-address is HOST:PORT of a cluster's head as its machines know it, or auto"


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
        try:
            import ray  # noqa: F401 - whether it is there
        except ImportError:
            raise UserError("--engine ray needs Ray, which is not installed: pip install 'pcbench[ray]'") from None

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
        UserError: there is no such cluster, or the workers do not fit it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # asked for by nobody
    import ray

    mine = not ray.is_initialized()
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


@dataclass
class _Hand:
    """A worker and what it is doing: loading models (no group), or a group, of which so many images are done."""

    actor: Any
    stream: Any
    group: Group | None = None
    last: Beat | None = None
    images: int = 0


@dataclass(frozen=True)
class RayEngine:
    """Evaluates groups on a crew.

    Args:
        crew: see `connected`, within whose context this works.
        fingerprint: of the images, that all machines must agree on.
        notice: is told of workers that were lost, and what they say.
    """

    crew: Crew
    fingerprint: str
    notice: Callable[[str], None]

    def __call__(
        self, plan: Plan, groups: Sequence[Group], images: Images, settings: Settings, observer: Observer
    ) -> Iterator[Finished]:
        """Evaluate groups; yields cells as they are finished.

        Raises:
            RunError: see the local engine; or a group whose workers are lost again and again, or no worker starts.
        """
        import ray

        todo = deque(groups)
        losses: Counter[str] = Counter()
        job = self._job(plan, images, settings)
        hands: list[_Hand] = []
        started = False
        try:
            hands += [self._hire(job) for _ in range(min(self.crew.workers, len(groups)))]
            while hands:
                ready, _ = ray.wait([hand.stream for hand in hands], num_returns=1, timeout=_PATIENCE)
                if not ready and not started:
                    raise RunError(f"no Ray worker started within {_PATIENCE:.0f} s; is the cluster busy with others?")
                if not ready:
                    continue
                hand = next(hand for hand in hands if hand.stream is ready[0])
                try:
                    event = ray.get(next(hand.stream))
                except StopIteration:
                    started = True
                    if todo:
                        self._give(hand, todo.popleft())
                    else:
                        hands.remove(hand)
                        ray.kill(hand.actor)  # others can have its place
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, UserError | RunError):
                        raise error.cause from None
                    raise
                except ray.exceptions.RayError as error:
                    hands.remove(hand)
                    self._lost(hand, losses, error)
                    if hand.group is not None:
                        todo.appendleft(hand.group)
                        if hand.last is not None:  # its images are done again
                            observer.batch(hand.last.glance, -hand.images)
                    hands.append(self._hire(job))
                else:
                    if isinstance(event, Beat):
                        hand.last, hand.images = event, hand.images + event.images
                        observer.batch(event.glance, event.images)
                    elif isinstance(event, Finished):
                        hand.images -= event.glance.images
                        hand.group = _without(hand.group, event.key)
                        yield event
                    else:
                        self.notice(event)
        finally:
            for hand in hands:
                ray.kill(hand.actor)

    def _job(self, plan: Plan, images: Images, settings: Settings) -> Any:
        import ray

        from pcbench.harness.ray_worker import Job, Pieces

        near = images.view()
        far: View[Pieces] | None = None
        if self.crew.far:
            pieces = {geometry: Pieces.of(kept) for geometry, kept in images.prepared.items()}
            far = View(near.name, near.ids, near.labels, near.folder, near.images, pieces)
        return ray.put(
            Job(
                plan.request,
                plan.identity(self.fingerprint, settings.device.type),
                self.fingerprint,
                settings,
                torch.get_num_threads(),
                ray.get_runtime_context().get_node_id(),
                near,
                far,
                str(Path.cwd()),
                tuple(sys.path),
            )
        )

    def _hire(self, job: Any) -> _Hand:
        import ray

        from pcbench.harness.ray_worker import Worker

        actor: Any = ray.remote(Worker).options(num_cpus=self.crew.cpus, num_gpus=self.crew.gpus).remote(job)
        return _Hand(actor, actor.load.options(num_returns="streaming").remote())

    def _give(self, hand: _Hand, group: Group) -> None:
        hand.group, hand.last, hand.images = group, None, 0
        hand.stream = hand.actor.evaluate.options(num_returns="streaming").remote(group)

    def _lost(self, hand: _Hand, losses: Counter[str], error: Exception) -> None:
        what = "loading the models" if hand.group is None else hand.group.cells[0].key
        losses[what] += 1
        if losses[what] > _LOSSES:
            raise RunError(
                f"Ray workers keep dying at {what} (out of memory?); what was finished is kept; try fewer --ray-workers"
            ) from None
        self.notice(f"a Ray worker was lost at {what} ({type(error).__name__}); another one does it again")


def _without(group: Group | None, key: str) -> Group | None:
    """What is left of a group when a cell is finished; None when nothing is."""
    if group is None:
        return None
    left = tuple(cell for cell in group.cells if cell.key != key)
    return replace(group, cells=left) if left else None
