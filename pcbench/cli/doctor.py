"""`pcbench doctor`: what is installed and at hand, and how to get the rest; what a run would need of this machine."""

from typing import Any

import click

EXAMPLES = """\b
Example:
  pcbench doctor --benchmark --model pefficientnet-lite0 --suite imagenet-c --limit 1000
"""


@click.command(epilog=EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--benchmark",
    is_flag=True,
    help="Measure this machine for a minute or so, and estimate time, memory and disk of a run; the options below say "
    "which, and mean what they mean for `pcbench run`.",
)
@click.option("--model", "models", multiple=True, metavar="NAME", help="Repeats.  [default: pefficientnet-lite0]")
@click.option("--suite", "suites", multiple=True, metavar="NAME", help="Repeats.  [default: imagenet-c]")
@click.option("--weights", metavar="TAG")
@click.option("--data", metavar="NAME|PATH")
@click.option("--timesteps", type=int, metavar="T")
@click.option("--limit", type=int, metavar="N")
@click.option("--images", type=int, metavar="N", help="Estimate for so many images, however many are at hand.")
@click.option("--batch-size", default="auto", show_default=True, metavar="N|auto")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda")
@click.option("--dtype", default="float32", show_default=True, metavar="float32|bfloat16")
@click.option("--workers", type=int, metavar="N")
def command(as_json: bool, benchmark: bool, **arguments: Any) -> None:
    """Say what is installed, which devices, data and weights are at hand, and how to get the rest."""
    import json

    from pcbench.errors import UserError
    from pcbench.harness.doctor import examine

    if benchmark:
        _benchmark(as_json, arguments)
        return
    given = [name for name, value in arguments.items() if value not in (None, (), "auto", "float32")]
    if given:
        raise UserError(f"--{given[0].rstrip('s').replace('_', '-')} describes a run to estimate; add --benchmark")
    found = examine()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    _show(found)


def _show(found: dict[str, Any]) -> None:
    """What can run and what is missing, on one screen."""
    system = ", ".join(f"{name} {value}" for name, value in found["system"].items())
    click.echo(f"system: {system}")
    click.echo("devices: " + "; ".join(f"{name} {value}" for name, value in found["devices"].items()))
    _wrapped("packages", [f"{name} {value}" for name, value in found["packages"].items()])
    at_hand = [row["name"] for row in found["data"] if row["at_hand"]]
    _wrapped("data at hand", at_hand)
    for row in found["data"]:
        if not row["at_hand"]:
            click.echo(f"  missing {row['name']}: pcbench data {row['name']} says how to get it")
    ready = [row["name"] for row in found["models"] if row["at_hand"] != ["random"]]
    _wrapped("models with weights at hand", ready)
    click.echo(f"  {len(found['models']) - len(ready)} others run with --weights random (pcbench models)")
    for line in found["plugins"]:
        click.echo(f"does not load: {line}")
    click.echo("try: pcbench run --model pefficientnet-lite0 --suite gaussian-noise --limit 20")


def _wrapped(title: str, words: list[str]) -> None:
    from textwrap import fill

    click.echo(fill(f"{title}: {', '.join(words) or 'none'}", 79, subsequent_indent="  ", break_long_words=False,
                    break_on_hyphens=False))  # fmt: skip


def _benchmark(as_json: bool, arguments: dict[str, Any]) -> None:
    import json
    from dataclasses import asdict

    from pcbench.config import RunConfig
    from pcbench.errors import UserError
    from pcbench.harness.benchmark import measure
    from pcbench.harness.choices import batch_size_of, find_device, workers_of
    from pcbench.harness.estimate import estimate
    from pcbench.harness.memory import keep_freed_memory

    config = RunConfig.of(
        model=arguments["models"] or ("pefficientnet-lite0",),
        suite=arguments["suites"] or ("imagenet-c",),
        **{name: arguments[name] for name in ("weights", "data", "timesteps", "limit", "dtype")},
    )
    if arguments["images"] is not None and arguments["images"] < 1:
        raise UserError(f"images is {arguments['images']}; it counts images, so 1 or more")
    keep_freed_memory()
    device = find_device(arguments["device"])
    workers = workers_of(arguments["workers"], device)
    timings, work = measure(
        config, device, batch_size_of(arguments["batch_size"]), workers, lambda text: click.echo(text, err=True)
    )
    if arguments["images"] is not None:
        work = work.model_copy(update={"images": arguments["images"]})
    found = estimate(timings, work)
    if as_json:
        whole = {"timings": timings.model_dump(), "work": work.model_dump(), "estimate": asdict(found)}
        click.echo(json.dumps(whole, indent=1))
        return
    cells = sum(len(members) for _, members in work.groups)
    click.echo(f"{cells} cells of {work.images:,} images each")
    for label, model in timings.models.items():
        click.echo(f"  {label}: {1e3 * model.first:.3g} ms an image at t = 0, {1e3 * model.step:.3g} ms a timestep")
    if timings.ahead:
        mean = sum(timings.ahead.values()) / len(timings.ahead)
        click.echo(f"  perturbing: {1e3 * mean:.3g} ms an image and core; {timings.workers} workers")
    click.echo(f"  decoding: {1e3 * timings.decoding:.3g} ms an image")
    click.echo(f"time: {_duration(found.total)} (perturbing {_duration(found.parts['perturbation'])} of one core, "
               f"models {_duration(found.parts['model'])}), costs and figures apart")  # fmt: skip
    click.echo(f"memory: {found.memory / 1e9:.1f} GB; on the device {found.device_memory / 1e9:.2f} GB for a batch")
    click.echo(f"disk: {found.records / 1e6:,.1f} MB of records, {found.temporary / 1e6:,.1f} MB of temporary images")
    click.echo("an estimate from a few images: other work on the machine, and attacks that stop early, change it")


def _duration(seconds: float) -> str:
    """Seconds as one would say them."""
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
