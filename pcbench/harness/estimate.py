"""What a run will need: time, memory and disk, from how long its parts take on a machine. Pure arithmetic."""

from dataclasses import dataclass

from pydantic import Field

from pcbench.tables import Strict


class ModelTiming(Strict):
    """A model on its device, at the run's batch size.

    Attributes:
        first: seconds per image of the pass at t = 0.
        step: seconds per image of each further timestep.
        memory: bytes that a batch needs on its way through the model.
    """

    first: float
    step: float
    memory: int

    def seconds(self, timesteps: int) -> float:
        """Of one image, at t = 0..timesteps."""
        return self.first + timesteps * self.step


class Timings(Strict):
    """What was measured on a machine.

    Attributes:
        cores: that the machine has; threads: that the model uses; workers: processes that perturb images.
        on_cpu: whether the models run on the cores that the workers use, too.
        opening: seconds until models and the list of images are there.
        decoding: seconds per image that is read, decoded and prepared, with all threads.
        models: label -> its timing.
        ahead: condition, or conditions that are made together -> seconds per image of one core, of all of them, before
            the model sees it.
        beside: model and condition -> seconds per image of what is done with the model's help (attacks).
        writing: seconds for a finished cell: its table made, compressed, written.
        worker_start: seconds until worker processes are there.
        process, worker: resident bytes of the main process with the models, and of a worker.
        row, cell: bytes of the records on disk: for each row, and for each cell besides.
    """

    cores: int
    threads: int
    workers: int
    on_cpu: bool
    opening: float
    decoding: float
    models: dict[str, ModelTiming]
    ahead: dict[str, float]
    beside: dict[str, float] = Field(default_factory=dict)
    writing: float
    worker_start: float
    process: int
    worker: int
    row: float
    cell: float


class Work(Strict):
    """What is to be done: so many images, their sizes, and groups of cells that share perturbed images.

    Attributes:
        images: number of them.
        bytes_per_image: of all geometries together, decoded.
        groups: the condition or conditions, and for each of their cells (model, timesteps).
    """

    images: int
    bytes_per_image: int
    groups: list[tuple[str, list[tuple[str, int]]]]


@dataclass(frozen=True)
class Estimate:
    """What a run will need.

    Attributes:
        seconds: by stage: "models" (opening), "images" (decoding), "sweep".
        parts: of the sweep, partly side by side: seconds of "perturbation", "model", "writing".
        memory: bytes of the main process and its workers, resident, on the CPU.
        device_memory: bytes of the largest batch on its way through a model.
        records, temporary: bytes on disk: results, and decoded images while the run goes on.
    """

    seconds: dict[str, float]
    parts: dict[str, float]
    memory: int
    device_memory: int
    records: int
    temporary: int

    @property
    def total(self) -> float:
        """Seconds of the whole run, figures apart."""
        return sum(self.seconds.values())


def estimate(timings: Timings, work: Work) -> Estimate:
    """Put what was measured together for what is to be done.

    Workers perturb the next images while the model looks at the present ones; so of both, the slower one counts. On the
    CPU they also share the cores, which can do no more than their number of seconds in a second.
    """
    perturbing = modelling = sweep = 0.0
    for condition, cells in work.groups:
        ahead = work.images * timings.ahead.get(condition, 0.0)
        model = work.images * sum(timings.models[label].seconds(steps) for label, steps in cells)
        model += work.images * sum(timings.beside.get(f"{label} {condition}", 0.0) for label, _ in cells)
        perturbing, modelling = perturbing + ahead, modelling + model
        if timings.workers == 0:
            sweep += ahead + model
            continue
        busy = (ahead + model * timings.threads) / timings.cores if timings.on_cpu else 0.0
        sweep += max(ahead / timings.workers, model, busy)
    cells_in_all = sum(len(cells) for _, cells in work.groups)
    writing = cells_in_all * timings.writing
    starts = timings.worker_start if timings.workers and perturbing > 0 else 0.0
    rows = work.images * sum(steps + 1 for _, cells in work.groups for _, steps in cells)
    memory = max((model.memory for model in timings.models.values()), default=0)
    return Estimate(
        seconds={
            "models": timings.opening,
            "images": work.images * timings.decoding,
            "sweep": sweep + writing + starts,
        },
        parts={"perturbation": perturbing, "model": modelling, "writing": writing},
        memory=timings.process + timings.workers * timings.worker + (memory if timings.on_cpu else 0),
        device_memory=memory,
        records=round(rows * timings.row + cells_in_all * timings.cell),
        temporary=work.images * work.bytes_per_image,
    )
