"""`run`: plan, sweep, keep. What `pcbench run` does, from Python."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from pcbench.data.registry import choose_data
from pcbench.errors import RunError, UserError, did_you_mean
from pcbench.harness.believe import write_believability
from pcbench.harness.images import Images
from pcbench.harness.local import Settings, evaluate
from pcbench.harness.memory import keep_freed_memory
from pcbench.harness.plan import Plan, Request, make_plan
from pcbench.harness.progress import Progress, silent
from pcbench.results import provenance
from pcbench.results.load import Results, load_results
from pcbench.results.schema import DataInfo, RunInfo, SuiteInfo
from pcbench.results.store import RunStore

_CPU_BATCH, _CUDA_BATCH = 32, 256


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
    workers: int | None = None,
    engine: str = "local",
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
        skip_bad_images: go on without images that cannot be decoded.
        options: for the models that know them, e.g. {"dynamics": "no-error"}.
        overrides: kind of perturbation -> parameters for its conditions, e.g. {"corruption": {"jpeg85": True}}.
        batch_size: images at once, or "auto".
        device: "auto" (CUDA when there is one), "cpu" or "cuda".
        workers: processes that perturb images; None for what suits the machine, 0 for none.
        engine: "local".
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
        skip_bad_images=skip_bad_images,
        options=dict(options or {}),
        overrides=dict(overrides or {}),
    )
    if engine not in ENGINES:
        raise UserError(f"no engine {engine!r}; {did_you_mean(engine, ENGINES)}")
    request.check()
    keep_freed_memory()
    chosen = find_device(device)
    settings = Settings(chosen, _batch_size(batch_size, chosen), _workers(workers, chosen))
    told = progress or silent()
    with told:
        told.say("loading models")
        plan = make_plan(request, chosen)
        images, notice = choose_data(data, plan.label_space)
        for line in [*plan.notices, *([notice] if notice else [])]:
            told.notice(line)
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
            info = _info(plan, opened, settings, [*plan.notices, *([notice] if notice else [])])
            directory = Path(output) if output is not None else _default_output(plan, info)
            command = command_of(request, directory)
            info.command = [_public(word) for word in command]
            with RunStore(directory) as store:
                store.open(info)
                _sweep(plan, opened, settings, store, told, command)
        finally:
            opened.close()
        results = load_results(directory)
        believed = write_believability(results, directory)
        if figures:
            told.say("drawing figures")
            _draw(results, directory)
    return RunResult(directory, results, believed)


ENGINES = ("local",)


def _sweep(plan: Plan, images: Images, settings: Settings, store: RunStore, told: Progress, command: list[str]) -> None:
    keys = [cell.key for cell in plan.cells]
    left = [cell for cell in plan.cells if not store.done(cell.key)]
    groups = plan.groups(left)
    told.start(cells=len(keys), done=len(keys) - len(left), images=len(images.ids))
    try:
        for cell in evaluate(plan, groups, images, settings, told):
            store.add(cell.key, cell.records, cell.seconds, cell.report, cell.extra)
            told.cell(cell)
        store.finish(keys, "complete")
    except KeyboardInterrupt:
        store.finish(keys, "interrupted")
        done, again = len(store.info.cells), shlex.join(command)
        raise KeyboardInterrupt(
            f"interrupted; {done} of {len(keys)} cells are finished and kept; go on with: {again}"
        ) from None
    except RunError:
        store.finish(keys, "failed")
        raise


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
        identity=plan.identity(images.fingerprint),
        planned=len(plan.cells),
        arguments={
            "model": [subject.label for subject in plan.subjects],
            "suite": [suite.name for suite in plan.suites],
            "weights": [subject.model.weights for subject in plan.subjects],
            "data": images.name,
            "timesteps": request.timesteps,
            "limit": request.limit,
            "seed": request.seed,
            "dtype": request.dtype,
            "skip_bad_images": request.skip_bad_images,
            "options": {name: str(value) for name, value in request.options.items()},
            "overrides": {kind: dict(values) for kind, values in request.overrides.items()},
        },
        models=plan.model_infos(),
        data=DataInfo(name=images.name, fingerprint=images.fingerprint, n=len(images.ids), skipped=images.skipped),
        suites=[SuiteInfo(name=suite.name, version=suite.version, digest=suite.digest()) for suite in plan.suites],
        seed=request.seed,
        device=provenance.device_name(settings.device),
        dtype=request.dtype,
        packages=provenance.packages(),
        git=provenance.git(),
        notices=notices,
        created=provenance.now(),
    )


def command_of(request: Request, directory: Path) -> list[str]:
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
    for option, given in request.options.items():
        words += [f"--{option.replace('_', '-')}", str(given)]
    for values in request.overrides.values():
        for option, given in values.items():
            flag = "corruption-backend" if option == "backend" else option.replace("_", "-")
            words += [f"--{flag}"] if given is True else [f"--{flag}", str(given)]
    if request.skip_bad_images:
        words.append("--skip-bad-images")
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


def find_device(name: str) -> torch.device:
    """The device of a name: "auto", "cpu" or "cuda". Raises UserError when it is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"no device {name!r}; {did_you_mean(name, ['auto', 'cpu', 'cuda'])}")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise UserError("device cuda is not there (pcbench doctor says what is); use --device cpu or auto")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def _batch_size(value: int | str, device: torch.device) -> int:
    if value == "auto":
        return _CUDA_BATCH if device.type == "cuda" else _CPU_BATCH
    try:
        size = int(value)
    except ValueError:
        size = 0
    if size < 1:
        raise UserError(f"batch size is {value!r}; it is a number of images, 1 or more, or auto")
    return size


def _workers(value: int | None, device: torch.device) -> int:
    if value is not None:
        if value < 0:
            raise UserError(f"workers is {value}; it counts processes, so 0 or more")
        return value
    cores = os.cpu_count() or 1
    return min(32, max(1, cores - 1 if device.type == "cuda" else cores // 2))
