"""The engine for many processes or machines: groups of cells as tasks of Ray workers that keep the models loaded."""

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pcbench.errors import RunError, UserError
from pcbench.harness.evaluate import Finished
from pcbench.harness.images import Images, View
from pcbench.harness.local import Beat, Observer, Settings
from pcbench.harness.plan import Group, Plan, divide
from pcbench.harness.ray_cluster import Crew
from pcbench.keys import DataKey

_LOSSES = 3  # times that a group is given again before the run gives up
_PATIENCE = 600.0  # seconds without any worker having started


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
        data: the images, that all machines must agree on.
        notice: is told of workers that were lost, and what they say.
    """

    crew: Crew
    data: DataKey
    notice: Callable[[str], None]

    def __call__(
        self, plan: Plan, groups: Sequence[Group], images: Images, settings: Settings, observer: Observer
    ) -> Iterator[Finished]:
        """Evaluate groups, divided for the workers; yields cells as they are finished.

        Raises:
            RunError: see the local engine; or a group whose workers are lost again and again, or no worker starts.
        """
        import ray

        groups = divide(groups, self.crew.workers)
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
                        hand.group = hand.group.without({event.cell: True}) if hand.group is not None else None
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
                plan.config,
                plan.identity(self.data),
                self.data,
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
        what = "loading the models" if hand.group is None else hand.group.cells[0].condition.label
        losses[what] += 1
        if losses[what] > _LOSSES:
            raise RunError(
                f"Ray workers keep dying at {what} (out of memory?); what was finished is kept; try fewer --ray-workers"
            ) from None
        self.notice(f"a Ray worker was lost at {what} ({type(error).__name__}); another one does it again")
