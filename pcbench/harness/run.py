"""`run`: plan, sweep, keep. What `pcbench run` does, from Python."""

import contextlib
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pcbench.data.registry import choose_data
from pcbench.errors import RunError, UserError, did_you_mean
from pcbench.harness.beside import write_beside
from pcbench.harness.choices import batch_size_of, find_device, workers_of
from pcbench.harness.compute import batch_for, compile_models, tf32_allowed
from pcbench.harness.evaluate import Finished
from pcbench.harness.images import Images
from pcbench.harness.local import Settings, evaluate
from pcbench.harness.log import Log, log_to_file
from pcbench.harness.memory import keep_freed_memory
from pcbench.harness.plan import Cell, Group, Plan, Request, divide, make_plan
from pcbench.harness.progress import Everyone, Journal, Progress, silent
from pcbench.harness.ray import RayEngine
from pcbench.harness.ray_cluster import Cluster, Crew, connected
from pcbench.results import provenance
from pcbench.results.load import Results, load_results
from pcbench.results.schema import DataInfo, RunInfo, Status, SuiteInfo
from pcbench.results.shards import Shard
from pcbench.results.store import RunStore


@dataclass(frozen=True)
class RunResult:
    """What a finished run has to say.

    Attributes:
        directory: of the run.
        results: as `pcbench.load_results` gives them.
        believability: the sanity checks of the run's attacks, see `pcbench.analysis.believability`; empty without any.
    """

    directory: Path
    results: Results
    believability: pd.DataFrame

    @property
    def accuracy(self) -> pd.DataFrame:
        """Accuracy of every cell at every timestep, with intervals."""
        return self.results.accuracy

    @property
    def records(self) -> pd.DataFrame:
        """One row for each image, cell and timestep."""
        return self.results.records


def run(
    model: str | Sequence[str],
    suite: str | Sequence[str],
    data: str | None = None,
    output: str | Path | None = None,
    *,
    weights: str | None = None,
    timesteps: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int | str = "auto",
    device: str = "auto",
    dtype: str = "float32",
    tf32: bool = False,
    compile: bool = False,
    workers: int | None = None,
    engine: str = "local",
    cluster: Cluster | None = None,
    shard: str | None = None,
    skip_bad_images: bool = False,
    figures: bool = True,
    options: Mapping[str, object] | None = None,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Sweep models over suites, or go on with a sweep that was interrupted.

    Args:
        model: one name or several.
        suite: one name (or path) or several.
        data: name or path; None for what is at hand.
        output: directory of the run; None for runs/NAME, with a name made of what decides the results.
        weights: tag for all models; None for each one's first at hand.
        timesteps: T; None for the suite's, or the model's default.
        limit: number of images, evenly over classes; None for all.
        seed: of everything random.
        dtype: "float32" or "bfloat16" (autocast).
        tf32: let convolutions and matrix products on CUDA round float32 operands to TF32.
        compile: pass the models through torch.compile, each where it works and is measured to be faster.
        skip_bad_images: go on without images that cannot be decoded.
        options: for the models that know them, e.g. {"dynamics": "no-error"}.
        overrides: kind of perturbation -> parameters for its conditions, e.g. {"corruption": {"jpeg85": True}}.
        batch_size: images at once, or "auto": what half of the free memory holds, up to what is useful.
        device: "auto" (CUDA when there is one), "cpu" or "cuda".
        workers: processes that perturb images; None for what suits the machine, 0 for none.
        engine: "local", or "ray": workers of a Ray cluster, each with the models, evaluate groups of cells.
        cluster: of the engine "ray"; None for one on this machine.
        shard: "2/8" for the second of eight parts, computed apart in output/shard-2-of-8; `pcbench merge` makes them
            one run.
        figures: draw the run at its end.
        progress: is told how it gets on.

    Returns:
        The finished run.

    Raises:
        UserError: bad input; nothing was written.
        RunError: the run failed; what was finished is kept, and the same call goes on.
        KeyboardInterrupt: with the command that goes on.
    """
    request = Request(
        models=(model,) if isinstance(model, str) else tuple(model),
        suites=(suite,) if isinstance(suite, str) else tuple(suite),
        weights=weights,
        data=data,
        timesteps=timesteps,
        limit=limit,
        seed=seed,
        dtype=dtype,
        tf32=tf32,
        skip_bad_images=skip_bad_images,
        options=dict(options or {}),
        overrides=dict(overrides or {}),
    )
    if engine not in ENGINES:
        raise UserError(f"no engine {engine!r}; {did_you_mean(engine, ENGINES)}")
    if engine == "ray":
        cluster = cluster or Cluster()
    elif cluster is not None:
        raise UserError("--ray-address, --ray-workers, --cpus-per-worker and --gpus-per-worker are for --engine ray")
    part = Shard.parse(shard) if shard is not None else None
    request.check()
    keep_freed_memory()
    chosen = find_device(device)
    if tf32 and chosen.type != "cuda":
        raise UserError("--tf32 is arithmetic of CUDA devices, and this run is on the CPU; leave it out")
    if cluster is not None:
        cluster.check(chosen)
    size, processes = batch_size_of(batch_size), workers_of(workers, chosen)
    told = progress or silent()
    with told, tf32_allowed(tf32, chosen):
        clock = Clock()
        told.say("loading models")
        plan = make_plan(request, chosen)
        images, notice = choose_data(data, plan.label_space)
        for line in [*plan.notices, *([notice] if notice else [])]:
            told.notice(line)
        clock.lap("models")
        told.say("reading images")
        opened = Images(
            images,
            [subject.geometry for subject in plan.subjects],
            limit,
            skip_bad_images,
            [cell.condition for cell in plan.cells],
            os.cpu_count() or 1,
            told.images,
        )
        try:
            clock.lap("images")
            with contextlib.ExitStack() as stack:
                crew = None
                if cluster is not None:
                    told.say("connecting to Ray")
                    crew = stack.enter_context(connected(cluster, chosen))
                    processes = crew.processes(chosen) if workers is None else processes
                    clock.lap("ray")
                fitting = size or batch_for(plan, chosen, len(opened.ids), crew.sharing if crew is not None else 1)
                settings = Settings(chosen, fitting, processes, compile)
                info = _info(plan, opened, settings, [*plan.notices, *([notice] if notice else [])])
                info.compute |= crew.recorded() if crew is not None else {}
                directory = Path(output) if output is not None else _default_output(plan, info)
                command = command_of(request, directory, shard, cluster)
                groups = plan.groups(plan.cells)
                if part is not None:
                    # large ones first: every n-th is an even share then
                    dealt = sorted(divide(groups, part.count), key=lambda group: -len(group.conditions))
                    groups, info.shard, directory = part.of(dealt), str(part), part.directory(directory)
                info.command, info.seconds = [_public(word) for word in command], clock.laps
                info.planned = sum(len(group.cells) for group in groups)
                with RunStore(directory) as store:
                    store.open(info)
                    with log_to_file(directory):
                        sweep = Sweep(plan, groups, opened, settings, store, told, clock, crew)
                        _sweep(sweep, command)
                        return _conclude(sweep, figures)
        finally:
            opened.close()


ENGINES = ("local", "ray")
PROGRESS_FILE = "progress.jsonl"


class Clock:
    """Seconds by stage, from a clock that nobody can set back."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """What went by since the last lap belongs to this stage."""
        now = time.perf_counter()
        self.laps[stage] = round(now - self._last, 3)
        self._last = now


@dataclass(frozen=True)
class Sweep:
    """What a sweep works with; `groups` are those of this run or shard, finished cells included; `crew`: Ray's."""

    plan: Plan
    groups: list[Group]
    images: Images
    settings: Settings
    store: RunStore
    told: Progress
    clock: Clock
    crew: Crew | None = None

    def evaluate(self, cells: list[Cell], observer: Progress) -> Iterator[Finished]:
        """These cells, on the engine of the run."""

        def notice(line: str) -> None:
            self.told.notice(line)
            self.store.info.notices.append(line)

        groups = self.plan.groups(cells)
        if self.crew is not None:
            engine = RayEngine(self.crew, self.images.fingerprint, notice)
            yield from engine(self.plan, groups, self.images, self.settings, observer)
            return
        if self.settings.compile and cells:
            subjects = {cell.subject for cell in cells}
            batch = min(self.settings.batch_size, len(self.images.ids))
            for line in compile_models(self.plan, subjects, batch, self.settings.device, self.told.say):
                notice(line)
        yield from evaluate(self.plan, groups, self.images, self.settings, observer)

    def lap(self, stage: str) -> None:
        """What went by since the last lap belongs to this stage of the run."""
        self.clock.lap(stage)
        self.store.add_seconds(stage, self.clock.laps[stage])

    def finish(self, status: Status) -> None:
        """Write what is finished, and how long it took."""
        self.lap("sweep")
        mine = {cell.key for group in self.groups for cell in group.cells}
        self.store.finish([cell.key for cell in self.plan.cells if cell.key in mine], status)


def _sweep(sweep: Sweep, command: list[str]) -> None:
    store = sweep.store
    cells = [cell for group in sweep.groups for cell in group.cells]
    left = [cell for cell in cells if not store.done(cell.key)]
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(Journal(store.directory / PROGRESS_FILE))
        log = Log()
        observer = Everyone(sweep.told, journal, log)
        observer.start(cells=len(cells), done=len(cells) - len(left), images=len(sweep.images.ids))
        try:
            for cell in sweep.evaluate(left, observer):
                started = time.perf_counter()
                store.add(cell.key, cell.records, cell.seconds, cell.report, cell.extra)
                store.add_seconds("writing", time.perf_counter() - started)
                observer.cell(cell)
        except BaseException as error:
            log.ended(error)
            # whatever it was, what is finished is kept; a full disk must not hide the error that came first
            with contextlib.suppress(RunError):
                sweep.finish("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(
                    f"interrupted; {len(store.info.cells)} of {len(cells)} cells are finished and kept; "
                    f"go on with: {shlex.join(command)}"
                ) from None
            if isinstance(error, UserError):  # too late for "nothing was written"
                raise RunError(f"{error}; what was finished is kept") from None
            raise
        sweep.finish("complete")
        log.ended()


def _conclude(sweep: Sweep, figures: bool) -> RunResult:
    """What is made of the records of a complete run."""
    from pcbench.harness.believe import write_believability  # here: SciPy's statistics take long to import

    directory = sweep.store.directory
    write_beside(sweep.plan, sweep.images, sweep.settings.device, directory, sweep.told.notice)
    sweep.lap("beside")
    results = load_results(directory)
    believed = write_believability(results, directory)
    sweep.lap("checks")
    if figures:
        sweep.told.say("drawing figures")
        _draw(results, directory)
        sweep.lap("figures")
    sweep.store.save("complete")
    return RunResult(directory, results, believed)


def _draw(results: Results, directory: Path) -> None:
    from pcbench.figures import run_figures

    try:
        run_figures(results, directory / "figures")
    except OSError as error:
        raise RunError(f"the records are complete, but figures cannot be written: {error}") from None


def _info(plan: Plan, images: Images, settings: Settings, notices: list[str]) -> RunInfo:
    request = plan.request
    return RunInfo(
        status="running",
        identity=plan.identity(images.fingerprint, settings.device.type),
        plan=[cell.key for cell in plan.cells],
        arguments={
            "model": [subject.label for subject in plan.subjects],
            "suite": [suite.name for suite in plan.suites],
            "weights": [subject.model.weights for subject in plan.subjects],
            "data": images.name,
            "timesteps": request.timesteps,
            "limit": request.limit,
            "seed": request.seed,
            "dtype": request.dtype,
            **({"tf32": True} if request.tf32 else {}),
            "skip_bad_images": request.skip_bad_images,
            "options": {name: str(value) for name, value in request.options.items()},
            "overrides": {kind: dict(values) for kind, values in request.overrides.items()},
        },
        models=plan.model_infos(),
        data=DataInfo(name=images.name, fingerprint=images.fingerprint, n=len(images.ids), skipped=images.skipped),
        suites=[SuiteInfo(name=suite.name, version=suite.version, digest=suite.digest()) for suite in plan.suites],
        seed=request.seed,
        device=provenance.device_name(settings.device),
        compute=settings.recorded(),
        dtype=request.dtype,
        packages=provenance.packages(),
        git=provenance.git(),
        notices=notices,
        created=provenance.now(),
    )


def command_of(
    request: Request, directory: Path, shard: str | None = None, cluster: Cluster | None = None
) -> list[str]:
    """The words of the command that makes a run, and goes on with it."""
    words = ["pcbench", "run"]
    for name in request.models:
        words += ["--model", name]
    for name in request.suites:
        words += ["--suite", name]
    for option in ("weights", "data", "timesteps", "limit"):
        value = getattr(request, option)
        if value is not None:
            words += [f"--{option}", str(value)]
    if request.seed:
        words += ["--seed", str(request.seed)]
    if request.dtype != "float32":
        words += ["--dtype", request.dtype]
    if request.tf32:
        words.append("--tf32")
    for option, given in request.options.items():
        words += [f"--{option.replace('_', '-')}", str(given)]
    # one option may go to several kinds of perturbation
    for option, given in dict.fromkeys(pair for values in request.overrides.values() for pair in values.items()):
        flag = "corruption-backend" if option == "backend" else option.replace("_", "-")
        words += [f"--{flag}"] if given is True else [f"--{flag}", str(given)]
    if request.skip_bad_images:
        words.append("--skip-bad-images")
    if shard is not None:
        words += ["--shard", shard]
    if cluster is not None:
        words += cluster.words()
    return [*words, "--output", str(directory)]


def _public(word: str) -> str:
    """A word of a command as a record may show it: of a path only the last part, which names no machine or user."""
    name, mark, query = word.partition("?")
    if mark:  # a model with options, one of which may be a file
        pairs = (pair.partition("=") for pair in query.split("&"))
        return name + mark + "&".join(f"{key}{sign}{Path(value).name}" for key, sign, value in pairs)
    return Path(word).name if Path(word).is_absolute() or word.startswith((".", "~")) else word


def _default_output(plan: Plan, info: RunInfo) -> Path:
    names = [subject.choice.spec.name for subject in plan.subjects][:2] + [suite.name for suite in plan.suites][:2]
    stem = "-".join(name.replace(":", "-").replace("/", "-") for name in names)
    return Path("runs") / f"{stem}-{info.identity[:8]}"
