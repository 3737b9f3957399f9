"""`pcbench run`: sweep models over suites."""

import signal
from pathlib import Path
from typing import Any

import click

EXAMPLES = """\b
Examples:
  pcbench run --model pefficientnet-lite0 --model efficientnet-lite0 --suite imagenet-c
  pcbench run --model pefficientnet-lite0 --suite gaussian-noise --data IMAGES --timesteps 10
  pcbench run --model timm:resnet18 --suite imagenet-c --data IMAGENET-C

Every option has an environment variable, e.g. PCBENCH_RUN_DEVICE.
"""


@click.command(epilog=EXAMPLES, context_settings={"auto_envvar_prefix": "PCBENCH_RUN"})
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Model (repeats): see `pcbench models`; also timm:NAME, torchvision:NAME, predify:NAME, "
    "averaging:NAME, diffusion:NAME, package.module:function.",
)
@click.option(
    "--suite",
    "suites",
    multiple=True,
    metavar="NAME",
    help="Suite (repeats): see `pcbench suites`; or the path of a suite file.",
)
@click.option(
    "--weights",
    metavar="TAG",
    help="Weights of the models; by default the first tag that is at hand. 'random' always is.",
)
@click.option(
    "--data",
    metavar="NAME|PATH",
    help="Data set: see `pcbench data`; or a folder of class folders, or the root of an ImageNet-C or "
    "CIFAR-C copy. By default what is at hand.",
)
@click.option(
    "--timesteps",
    type=int,
    metavar="T",
    help="Number of updates after the feedforward pass (t = 0); gives T + 1 answers. By default the "
    "suite's or the model's.",
)
@click.option(
    "--limit",
    type=int,
    metavar="N",
    help="Take N images only, evenly over classes; a smaller N takes some of a larger N's.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all random numbers.")
@click.option(
    "--batch-size",
    default="auto",
    show_default=True,
    metavar="N|auto",
    help="Images at once; auto: what half of the free memory holds, up to what is useful. Halves by itself when memory "
    "runs out.",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda", help="Where the models run.")
@click.option(
    "--dtype",
    default="float32",
    show_default=True,
    metavar="float32|bfloat16",
    help="Arithmetic of the models (bfloat16: autocast).",
)
@click.option("--tf32", is_flag=True, help="On CUDA, round the operands of float32 arithmetic to TF32: faster.")
@click.option(
    "--compile", is_flag=True, help="Use torch.compile for each model where it works and is measured to be faster."
)
@click.option(
    "--workers", type=int, metavar="N", help="Processes that perturb images; by default what suits the machine."
)
@click.option(
    "--engine",
    default="local",
    show_default=True,
    metavar="local|ray",
    help="What computes: this process, or the workers of a Ray cluster.",
)
@click.option(
    "--ray-address",
    metavar="HOST:PORT|auto",
    help="Running Ray cluster; by default one of this machine alone, that lasts as long as the run.",
)
@click.option("--ray-workers", type=int, metavar="N", help="Ray workers, each with the models; by default what fits.")
@click.option("--cpus-per-worker", type=float, metavar="C", help="Cores of each Ray worker; by default an equal share.")
@click.option(
    "--gpus-per-worker", type=float, metavar="G", help="GPUs for each Ray worker, 1 by default; 0.5 lets two share one."
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Compute part I of N parts only, in DIR/shard-I-of-N; `pcbench merge DIR` makes them one run.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory of the run; by default runs/NAME. The same command goes on with a run that was interrupted.",
)
@click.option(
    "--skip-bad-images", is_flag=True, help="Go on without images that cannot be decoded; they are named in run.json."
)
@click.option("--no-figures", is_flag=True, help="Draw nothing at the end.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but notices, errors and where the results are.")
@click.option(
    "--log-level",
    default="warning",
    show_default=True,
    metavar="debug|info|warning|error",
    help="What to log on standard error: info says when each cell is finished, debug each batch. DIR/run.log has info "
    "in any case.",
)
@click.option("--dynamics", metavar="full|no-error|no-feedback|memory-only", help="Ablation of predictive networks.")
@click.option(
    "--feedforward",
    metavar="B[,B...]",
    help="Feedforward weight of predictive networks, one for all PCoders or one for each.",
)
@click.option("--feedback", metavar="L[,L...]", help="Feedback weight, likewise.")
@click.option("--pc", metavar="A[,A...]", help="Weight of the error term, likewise.")
@click.option(
    "--corruption-backend",
    metavar="native|reference",
    help="Corruption engine: pcbench's own, or the package imagecorruptions.",
)
@click.option(
    "--jpeg85", is_flag=True, help="Pass corrupted images through JPEG of quality 85, as the published ImageNet-C was."
)
@click.option("--frost-textures", metavar="5|6", help="Textures that frost draws from: ImageNet-C's 5, or all 6.")
@click.option(
    "--attack-gradient",
    metavar="exact|truncated",
    help="Gradient through time that attacks follow; truncated is the published one.",
)
@click.option(
    "--attack-source",
    metavar="NAME",
    help="Model that transferred attacks are crafted on; by default each model's own feedforward baseline.",
)
def command(**arguments: Any) -> None:
    """Sweep models over suites: accuracy at every timestep under every perturbation.

    Results go to a directory: run.json, records/, accuracy.csv, figures/. Interrupt it at any time (Ctrl-C, kill);
    the same command goes on where it stopped, and ends with the same results.
    """
    from rich.console import Console

    from pcbench.errors import UserError
    from pcbench.harness.log import level_of, log_to_console
    from pcbench.harness.progress import Display
    from pcbench.harness.ray_cluster import Cluster
    from pcbench.harness.run import run
    from pcbench.results.summary import accuracy_summary

    signal.signal(signal.SIGTERM, _interrupt)  # what batch schedulers send before they kill
    overrides: dict[str, dict[str, object]] = {}
    if arguments["corruption_backend"] is not None:
        overrides.setdefault("corruption", {})["backend"] = _one_of(
            arguments, "corruption_backend", "native", "reference"
        )
    if arguments["jpeg85"]:
        overrides.setdefault("corruption", {})["jpeg85"] = True
    if arguments["frost_textures"] is not None:
        overrides.setdefault("corruption", {})["frost_textures"] = int(_one_of(arguments, "frost_textures", "5", "6"))
    if arguments["attack_gradient"] is not None:
        gradient = _one_of(arguments, "attack_gradient", "exact", "truncated")
        for kind in ("attack", "attack-probe"):
            overrides.setdefault(kind, {})["attack_gradient"] = gradient
    if arguments["attack_source"] is not None:
        overrides.setdefault("attack", {})["attack_source"] = arguments["attack_source"]
    options = {
        name: arguments[name] for name in ("dynamics", "feedforward", "feedback", "pc") if arguments[name] is not None
    }
    asked = ("ray_address", "ray_workers", "cpus_per_worker", "gpus_per_worker")
    cluster = Cluster(*(arguments[name] for name in asked))
    level, display = level_of(arguments["log_level"]), Display(quiet=arguments["quiet"])
    try:
        with log_to_console(level, display.console):
            result = run(
                model=arguments["models"],
                suite=arguments["suites"],
                data=arguments["data"],
                output=arguments["output"],
                weights=arguments["weights"],
                timesteps=arguments["timesteps"],
                limit=arguments["limit"],
                seed=arguments["seed"],
                batch_size=arguments["batch_size"],
                device=arguments["device"],
                dtype=arguments["dtype"],
                tf32=arguments["tf32"],
                compile=arguments["compile"],
                workers=arguments["workers"],
                engine=arguments["engine"],
                cluster=None if cluster == Cluster() else cluster,
                shard=arguments["shard"],
                skip_bad_images=arguments["skip_bad_images"],
                figures=not arguments["no_figures"],
                options=options,
                overrides=overrides,
                progress=display,
            )
    except UserError as error:
        from pcbench.training.feedback_advice import with_advice

        raise with_advice(error, arguments["models"], arguments["weights"]) from None
    if not arguments["quiet"]:
        checks = result.believability
        doubted = checks[checks["verdict"].isin(["failed", "suspicious"])] if len(checks) else checks
        pairs = {(row["suite"], row["model"]) for row in doubted.to_dict(orient="records")}
        Console().print(accuracy_summary(result.accuracy, pairs))
        if len(checks):
            from pcbench.harness.believe import believability_summary, robust_summary, robust_table

            Console().print(robust_summary(robust_table(result.records)))
            Console().print(believability_summary(checks))
    click.echo(f"results: {result.directory}")


def _one_of(arguments: dict[str, Any], name: str, *known: str) -> str:
    from pcbench.errors import UserError, did_you_mean

    value = str(arguments[name])
    if value not in known:
        raise UserError(f"--{name.replace('_', '-')}: no {value!r}; {did_you_mean(value, known)}")
    return value


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
