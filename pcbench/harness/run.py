"""`run`: plan, sweep, keep. What `pcbench run` does, from Python."""

import contextlib
import os
import shlex
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd

from pcbench.config import RunConfig
from pcbench.errors import Interrupted, Notice, RunError, UserError
from pcbench.harness.choices import batch_size_of, find_device, workers_of
from pcbench.harness.compute import batch_for, choose_predictors, compile_models, routes_restored, tf32_allowed
from pcbench.harness.described import describe
from pcbench.harness.evaluate import Finished
from pcbench.harness.images import Images
from pcbench.harness.local import Settings, evaluate
from pcbench.harness.log import Log, log_to_file
from pcbench.harness.memory import keep_freed_memory
from pcbench.harness.plan import Cell, Group, Plan, divide, make_plan
from pcbench.harness.progress import Everyone, Journal, Progress
from pcbench.harness.ray import RayEngine
from pcbench.harness.ray_cluster import Cluster, Crew, connected
from pcbench.harness.shard import Shard
from pcbench.harness.width import images_for
from pcbench.keys import CellKey, digest_of
from pcbench.models.predictive.routes import Mode
from pcbench.models.predictive.spectral import kernels
from pcbench.numerics import sources_digest
from pcbench.results import provenance
from pcbench.results.directory import Claim, Directory
from pcbench.results.requests import AskedSuite, Request, Status
from pcbench.results.study import Study, load_results

PROGRESS_FILE = "progress.jsonl"
_POLL = 1.0  # seconds between two looks at what other processes have finished


@dataclass(frozen=True)
class RunResult:
    """What a finished run has to say.

    Attributes:
        directory: where its cells are.
        study: the cells that were asked for, as `pcbench.load_results` gives them.
    """

    directory: Path
    study: Study

    @property
    def accuracy(self) -> pd.DataFrame:
        """Accuracy of every cell at every timestep, with intervals: see `Study.accuracy`."""
        return self.study.accuracy

    @property
    def records(self) -> pd.DataFrame:
        """One row for each image, cell and timestep."""
        return self.study.records

    def __repr__(self) -> str:
        systems = len(self.study.systems())
        return f"RunResult({str(self.directory)!r}: {len(self.study.cells)} cells of {systems} models; see .accuracy)"


class Warnings(Progress):
    """Says what was chosen for the user as Python warnings, and nothing else."""

    def notice(self, text: str) -> None:
        """A choice that was made for the user."""
        warnings.warn(text, Notice, stacklevel=2)


def run(config: RunConfig | None = None, *, progress: Progress | None = None, **arguments: Any) -> RunResult:
    """Sweep models over suites: compute the cells that are missing from a directory, and add them.

    Args:
        config: what is asked; or, instead, its fields as keyword arguments:
        arguments: `model` (a name, a network, or several), `suite` (a name or path, or several), `data`, `output`,
            `weights`, `timesteps`, `limit`, `seed`, `batch_size`, `device`, `dtype`, ...: every option of
            `pcbench run`, see `pcbench.RunConfig`.
        progress: is told how it gets on; by default notices are warnings of the class `pcbench.Notice`.

    Returns:
        The cells that were asked for, computed now or before.

    Raises:
        UserError: bad input; nothing was written.
        RunError: the run failed; what was finished is kept, and the same call goes on.
        Interrupted: with the command that goes on.
    """
    if config is None:
        config = RunConfig.of(**arguments)
    elif arguments:
        raise UserError(f"give a config or keyword arguments, not both: {', '.join(arguments)}")
    cluster = _cluster(config)
    part = Shard.parse(config.shard) if config.shard is not None else None
    keep_freed_memory()
    device = find_device(config.device)
    if config.tf32 and device.type != "cuda":
        raise UserError("--tf32 is arithmetic of CUDA devices, and this run is on the CPU; leave it out")
    if cluster is not None:
        cluster.check(device)
    size, processes = batch_size_of(config.batch_size), workers_of(config.workers, device)
    if config.output is not None:
        Directory.check(config.output)  # before anything is loaded
    told = progress or Warnings()
    with told, tf32_allowed(config.tf32, device):
        clock = Clock()
        told.say("loading models")
        plan = make_plan(config, device)
        images, notice = images_for(config.data, plan.label_space, [subject.model for subject in plan.subjects])
        notices = [*plan.notices, *([notice] if notice else [])]
        for line in notices:
            told.notice(line)
        clock.lap("models")
        told.say("reading images")
        opened = Images(
            images,
            [subject.geometry for subject in plan.subjects],
            config.limit,
            config.skip_bad_images,
            [cell.condition for cell in plan.cells],
            os.cpu_count() or 1,
            told.images,
        )
        try:
            for line in opened.notices:
                told.notice(line)
            notices += opened.notices
            clock.lap("images")
            with contextlib.ExitStack() as stack:
                crew = None
                if cluster is not None:
                    told.say("connecting to Ray")
                    crew = stack.enter_context(connected(cluster, device))
                    processes = crew.processes(device) if config.workers is None else processes
                    clock.lap("ray")
                fitting = size or batch_for(plan, device, len(opened.ids), crew.sharing if crew is not None else 1)
                settings = Settings(device, fitting, processes, config.compile)
                keys = {cell: plan.key(cell, opened.key) for cell in plan.cells}
                output = config.output or _default_output(plan, keys)
                config = replace(config, output=output)
                compute = settings.recorded() | (crew.recorded() if crew is not None else {})
                with Directory(output) as directory:
                    _check_code(directory, keys, config)
                    request = _request(plan, config, keys, opened, notices, compute)
                    sweep = Sweep(plan, config, keys, opened, settings, directory, request, told, clock, crew)
                    with log_to_file(directory.path):
                        sweep.go(part)
                        return sweep.conclude(output)
        finally:
            opened.close()


class Clock:
    """Seconds by stage, from a clock that nobody can set back."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """What went by since the last lap belongs to this stage."""
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now


@dataclass
class Sweep:
    """What a sweep works with."""

    plan: Plan
    config: RunConfig
    keys: dict[Cell, CellKey]
    images: Images
    settings: Settings
    directory: Directory
    request: Request
    told: Progress
    clock: Clock
    crew: Crew | None = None
    _claims: dict[Cell, Claim] = field(default_factory=dict)

    def go(self, part: Shard | None) -> None:
        """Compute the cells that are missing, or a part of them.

        Raises:
            RunError, Interrupted: what was finished is kept.
        """
        cells = list(self.plan.cells)
        if part is not None:
            # large ones first: every n-th is an even share then
            dealt = sorted(divide(self.plan.groups(cells), part.count), key=lambda group: -len(group.conditions))
            cells = [cell for group in part.of(dealt) for cell in group.cells]
        left = [cell for cell in cells if self.directory.cell(self.keys[cell]) is None]
        self._record("running")
        with contextlib.ExitStack() as stack:
            stack.enter_context(routes_restored(self.plan))
            journal = stack.enter_context(Journal(self.directory.path / PROGRESS_FILE))
            log = Log()
            observer = Everyone(self.told, journal, log)
            observer.start(cells=len(cells), done=len(cells) - len(left), images=len(self.images.ids))
            try:
                self._sweep(left, observer)
            except BaseException as error:
                log.ended(error)
                # whatever it was, what is finished is kept; a full disk must not hide the error that came first
                with contextlib.suppress(RunError, UserError):
                    self._record("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
                self._explain(error, cells)
            finally:
                for claim in self._claims.values():
                    claim.release()
            log.ended()

    def _sweep(self, left: list[Cell], observer: Progress) -> None:
        if not left:
            return
        described = self._described(left)
        self._choose_predictors(left)
        first = {cell.subject: cell for cell in reversed(left)}
        source = self._source()
        for finished in self._evaluate(left, observer):
            started = time.perf_counter()
            cell = finished.cell
            model, terms = described[cell.subject, cell.timesteps]
            told = {
                **source,
                "model": model,
                "seconds": {stage: round(value, 4) for stage, value in finished.seconds.items()},
                "created": provenance.now(),
                **({"terms": terms} if terms and first[cell.subject] == cell else {}),
            }
            self.directory.add(self.keys[cell], finished.answers, told, finished.report)
            claim = self._claims.pop(cell, None)
            if claim is not None and claim not in self._claims.values():
                claim.release()
            self.clock.laps["writing"] = self.clock.laps.get("writing", 0.0) + time.perf_counter() - started
            observer.cell(finished)

    def _described(self, left: Sequence[Cell]) -> dict[tuple[int, int], tuple[dict[str, Any], list[dict[str, Any]]]]:
        pairs = dict.fromkeys((cell.subject, cell.timesteps) for cell in left)
        return {
            (index, steps): describe(self.plan, index, steps, self.images, self.settings.device, self._notice)
            for index, steps in pairs
        }

    def _choose_predictors(self, left: Sequence[Cell]) -> None:
        """Once, for all cells and workers, and after costs were counted, which are those of the direct form."""
        mode = cast("Mode", self.config.predictors)
        if mode != "direct":
            self.told.say("choosing how predictors compute")
        batch = min(self.settings.batch_size, len(self.images.ids))
        routes = choose_predictors(self.plan, {cell.subject for cell in left}, mode, batch, self.settings.device)
        self.settings = replace(self.settings, routes=routes)
        for fallback in dict.fromkeys(record["fallback"] for record in routes.values()):
            if fallback is not None:
                self._notice(f"products of spectra are computed by {fallback}")
        if mode != "direct" and all(one["tiles"] is None for record in routes.values() for one in record["choices"]):
            self._notice(f"--predictors {mode}: no predictor is large enough for spectra to pay; all compute directly")
        networks = {}
        for index, record in routes.items():
            key = self.plan.subjects[index].key
            networks[f"{key.label} [{key.weights}]"] = record
        predictors = {"mode": mode, "networks": networks}
        self.request.compute["predictors"] = predictors

        def change(kept: Request) -> None:
            kept.compute = self.request.compute

        self.directory.record(self.request, change)

    def _source(self) -> dict[str, Any]:
        """Where the cells of this process come from."""
        return {
            "packages": provenance.packages(),
            "git": provenance.git(),
            "sources": sources_digest(),
            "device": provenance.device_name(self.settings.device),
            "compute": self.request.compute,
            "command": self.config.words(public=True),
        }

    def _notice(self, line: str) -> None:
        self.told.notice(line)
        if line not in self.request.notices:
            self.request.notices.append(line)

    def _evaluate(self, left: list[Cell], observer: Progress) -> Iterator[Finished]:
        """These cells, on the engine of the run."""
        groups = self.plan.groups(left)
        if self.crew is not None:
            kernels.clear()  # what was made to be measured: the workers make their own
            engine = RayEngine(self.crew, self.images.key, self._notice)
            yield from engine(self.plan, groups, self.images, self.settings, observer)
            return
        if self.settings.compile:
            subjects = {cell.subject for cell in left}
            batch = min(self.settings.batch_size, len(self.images.ids))
            for line in compile_models(self.plan, subjects, batch, self.settings.device, self.told.say):
                self._notice(line)
        yield from evaluate(self.plan, self._claimed(groups), self.images, self.settings, observer)

    def _claimed(self, groups: Sequence[Group]) -> Iterator[Group]:
        """The groups that no other process is computing, one after another, until none is left.

        What others have finished meanwhile is left out; what they are computing comes last, should they give up.
        """
        waiting = deque(groups)
        refused = 0
        while waiting:
            if refused and refused >= len(waiting):
                time.sleep(_POLL)
                refused = 0
            group = waiting.popleft()
            claim = self.directory.claim(self.keys[group.cells[0]].digest)
            if not claim.mine:
                refused += 1
                if (rest := self._without_finished(group)) is not None:
                    waiting.append(rest)
                continue
            rest = self._without_finished(group)
            if rest is None:
                claim.release()
                continue
            refused = 0
            self._claims |= dict.fromkeys(rest.cells, claim)
            yield rest

    def _without_finished(self, group: Group) -> Group | None:
        done = {cell: True for cell in group.cells if self.directory.cell(self.keys[cell]) is not None}
        return group.without(done)

    def _record(self, status: Status) -> None:
        """Write how the request stands. What the same request said before (when it was made first) is kept."""
        laps, self.clock.laps = self.clock.laps, {}

        def change(kept: Request) -> None:
            kept.status = status
            kept.notices = list(dict.fromkeys([*kept.notices, *self.request.notices]))
            for stage, seconds in laps.items():
                kept.seconds[stage] = round(kept.seconds.get(stage, 0.0) + seconds, 3)

        self.directory.record(self.request, change)

    def _explain(self, error: BaseException, cells: Sequence[Cell]) -> None:
        """Raise what ended the sweep in the words that tell how to go on."""
        if isinstance(error, KeyboardInterrupt):
            done = sum(self.directory.cell(self.keys[cell]) is not None for cell in cells)
            raise Interrupted(
                f"interrupted; {done} of {len(cells)} cells are finished and kept; "
                f"go on with: {shlex.join(self.config.words())}",
                error.signal if isinstance(error, Interrupted) else 2,
            ) from None
        if isinstance(error, UserError):  # too late for "nothing was written"
            raise RunError(f"{error}; what was finished is kept") from None
        raise error

    def conclude(self, output: Path) -> RunResult:
        """Derive what is made of the cells that are there: tables and figures, for all requests of the directory."""
        self.clock.lap("sweep")
        derive(self.directory, self.told.say if self.config.figures else None)
        self.clock.lap("deriving")
        study = load_results(output)
        wanted = {key.digest for key in self.keys.values()}
        mine = replace(study, cells=tuple(cell for cell in study.cells if cell.key.digest in wanted))
        complete = len(mine.cells) == len(wanted)

        def change(kept: Request) -> None:
            kept.status = "complete" if complete else "running"
            if complete and kept.finished is None:
                kept.finished = provenance.now()

        self.clock.laps.pop("writing", None)
        self._record("complete" if complete else "running")
        self.directory.record(self.request, change)
        return RunResult(output, mine)


def derive(directory: Directory, say: Callable[[str], None] | None) -> None:
    """Make the tables and figures of a directory from the cells that are there; nothing when they have not changed.

    Args:
        directory: open.
        say: is told when figures are drawn; None for no figures.

    Raises:
        RunError: a file cannot be written; the cells are complete.
    """
    from pcbench.analysis.derived import ACCURACY, digest_of_cells, tables, to_csv

    with directory.alone():
        study = load_results(directory.path)
        digest = digest_of([digest_of_cells(study), say is not None])
        requests = directory.requests()
        if requests.derived == digest and (directory.path / ACCURACY).is_file():
            return
        for name, table in tables(study).items():
            directory.write(name, to_csv(table))
        if say is not None:
            say("drawing figures")
            _draw(study, directory.path)
        requests.derived = digest
        directory.write("run.json", requests.text().encode())


def _draw(study: Study, directory: Path) -> None:
    from pcbench.figures import study_figures

    try:
        study_figures(study, directory / "figures")
    except OSError as error:
        raise RunError(f"the records are complete, but figures cannot be written: {error}") from None


def _cluster(config: RunConfig) -> Cluster | None:
    if config.engine != "ray":
        return None
    return Cluster(config.ray_address, config.ray_workers, config.cpus_per_worker, config.gpus_per_worker)


def _check_code(directory: Directory, keys: dict[Cell, CellKey], config: RunConfig) -> None:
    """Refuse to add to cells that other code computed, unless that is asked for. Raises UserError."""
    if config.other_code:
        return
    here = sources_digest()
    for key in keys.values():
        cell = directory.cell(key)
        there = cell.provenance.get("sources") if cell is not None else None
        if cell is None or there == here or there is None:
            continue
        packages = cell.provenance.get("packages")
        version = packages.get("pcbench", "?") if isinstance(packages, dict) else "?"
        raise UserError(
            f"{directory.path.name} holds cells that other code computed (pcbench {version}, sources "
            f"{str(there)[:8]}; here {here[:8]}), such as {cell.path.name}; choose another --output, or add to them "
            "with --other-code"
        )


def _request(
    plan: Plan,
    config: RunConfig,
    keys: dict[Cell, CellKey],
    images: Images,
    notices: list[str],
    compute: dict[str, Any],
) -> Request:
    suites = [
        AskedSuite(
            name=suite.name,
            version=suite.version,
            measure=suite.measure,
            timesteps=suite.timesteps,
            conditions=[_json(condition.text) for condition in suite.conditions],
            cells=[keys[cell].digest for cell in cells],
        )
        for suite, cells in zip(plan.suites, plan.of_suite, strict=True)
    ]
    return Request(
        asked=config.recorded(),
        models=[f"{subject.label} [{subject.key.weights}]" for subject in plan.subjects],
        data=f"{images.name}, {len(images.ids)} images",
        suites=suites,
        notices=notices,
        skipped=images.skipped,
        compute=compute,
        created=provenance.now(),
    )


def _json(text: str) -> Any:
    import json

    return json.loads(text)


def _default_output(plan: Plan, keys: dict[Cell, CellKey]) -> Path:
    names = [subject.key.name for subject in plan.subjects][:2] + [suite.name for suite in plan.suites][:2]
    stem = "-".join(name.replace(":", "-").replace("/", "-") for name in names)
    return Path("runs") / f"{stem}-{digest_of([key.digest for key in keys.values()])[:8]}"
