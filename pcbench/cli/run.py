"""`pcbench run`: sweep models over suites."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import click

from pcbench.config import Option, RunConfig, flag
from pcbench.errors import Interrupted

EXAMPLES = """\b
Examples:
  pcbench run --model pefficientnet-lite0 --model efficientnet-lite0 --suite imagenet-c
  pcbench run --model pvgg16-cifar@tuned --suite gaussian-noise --data IMAGES --timesteps 10
  pcbench run --model timm:resnet18 --suite imagenet-c --data IMAGENET-C

Every option has an environment variable, e.g. PCBENCH_RUN_DEVICE.
"""


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every option of a run, as `RunConfig` has them."""
    for name, option in reversed(RunConfig.options().items()):
        command = _as_click(name, option)(command)
    return command


def _as_click(name: str, option: Option) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    default = RunConfig.defaults()[name]
    if option.kind is bool:
        return click.option(
            flag(name, negative=default), name, is_flag=True, flag_value=not default, default=default, help=option.help
        )
    names = [flag(name), name] + (["-q"] if name == "quiet" else [])
    if option.repeats:
        return click.option(*names, multiple=True, metavar=option.metavar, help=option.help)
    kind: Any = click.Path(path_type=Path) if option.kind is Path else option.kind
    return click.option(
        *names, type=kind, default=default, show_default=default is not None, metavar=option.metavar, help=option.help
    )


@click.command(epilog=EXAMPLES, context_settings={"auto_envvar_prefix": "PCBENCH_RUN"})
@with_options
def command(**arguments: Any) -> None:
    """Sweep models over suites: accuracy at every timestep under every perturbation.

    Results go to a directory, which is a set of cells (model x images x condition): a run computes those that are
    missing and adds them. Interrupt it at any time (Ctrl-C, kill): the same command goes on where it stopped, and ends
    with the same results; another model or suite extends them.
    """
    from rich.console import Console

    from pcbench.cli._display import Display, log_to_console
    from pcbench.cli._summary import accuracy_summary, believability_summary, robust_summary
    from pcbench.errors import UserError
    from pcbench.harness.log import level_of
    from pcbench.harness.run import run

    for name in ("SIGTERM", "SIGHUP"):  # what batch schedulers send before they kill, and closed terminals
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    config = RunConfig.of(**arguments)
    level, display = level_of(config.log_level), Display(quiet=config.quiet)
    try:
        with log_to_console(level, display.console):
            result = run(config, progress=display)
    except UserError as error:
        from pcbench.training.feedback_advice import with_advice

        raise with_advice(error, [name for name in config.model if isinstance(name, str)], config.weights) from None
    if not config.quiet:
        from pcbench.analysis.robustness import evidence_table, robust_table

        checks = evidence_table(result.study)
        doubted = checks[checks["verdict"].isin(["failed", "suspicious"])] if len(checks) else checks
        pairs = {(row["suite"], row["model"]) for row in doubted.to_dict(orient="records")}
        console = Console()
        console.print(accuracy_summary(result.accuracy, pairs))
        if len(checks):
            console.print(robust_summary(robust_table(result.study)))
            console.print(believability_summary(checks))
    click.echo(f"results: {result.directory}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted("", number)
