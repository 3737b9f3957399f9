"""What the recipes for whole networks share: their options, and the run of one."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:  # training imports torch, which --help does without
    from pcbench.models.base import TemporalClassifier
    from pcbench.models.hah import HaHCost
    from pcbench.training.folder import Row
    from pcbench.training.recipes import ClassifierRecipe

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--model", required=True, help="A network of ours, e.g. vgg16-cifar or 'vgg16-cifar?width=0.25'."),
    click.option("--tag", help="The weights to make: a tag of the model, with its options. [default: its first]"),
    click.option(
        "--data",
        required=True,
        help="A .npz file (x_train, y_train, x_test, y_test), torchvision's CIFAR-10 root, a folder with train/ and "
        "test/, a folder of class folders, or cifar10 (what PCBENCH_CIFAR10 names).",
    ),
    click.option(
        "--output", type=click.Path(path_type=Path), required=True, help="Folder of the training; resumes there."
    ),
    click.option(
        "--start-from",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Begin with the weights of this file, network.safetensors of another training, not with random ones.",
    ),
    click.option("--install", is_flag=True, help="At the end, also put the weights where the tag looks for them."),
    click.option("--epochs", type=int, help="Passes over the training images."),
    click.option("--batch-size", type=int, help="Over all processes together."),
    click.option("--optimiser", type=click.Choice(["sgd", "adam"]), help="sgd has Nesterov momentum 0.9."),
    click.option("--learning-rate", type=float, help="At its highest."),
    click.option("--weight-decay", type=float),
    click.option("--schedule", type=click.Choice(["one-cycle", "cosine", "steps"])),
    click.option("--warmup", type=float, help="Share of the steps in which the rate rises."),
    click.option("--label-smoothing", type=float, help="Share of the target spread over all classes."),
    click.option("--ema", type=float, help="Decay of the parameters' running mean, which is kept; 0: none."),
    click.option("--clip", type=float, help="Largest norm of the gradient; 0: none."),
    click.option("--padding", type=int, help="Pixels around a small image before the random crop."),
    click.option("--cutout", type=int, help="Side of a black square laid on each small image, in pixels; 0: none."),
    click.option("--crop-scale", type=float, help="Smallest share of a large image that a random crop covers."),
    click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="bfloat16: mixed precision."),
    click.option("--seed", type=int, help="Of initial parameters, order and augmentation."),
    click.option("--limit", type=int, help="Use this many training images, balanced over classes."),
    click.option("--held-out", default=0.0, show_default=True, help="Report on this share of the training images."),
    click.option("--workers", default=2, show_default=True, help="Processes that read large images."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
    click.option("--half/--no-half", default=True, show_default=True, help="Store the weights in half precision."),
    click.option("--checkpoint-steps", default=200, show_default=True, help="Keep the state after so many steps."),
)


def training_options(command: Command) -> Command:
    """The options of every recipe for whole networks. Those without a default take the recipe's."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def train(
    command: str,
    recipe: "ClassifierRecipe",
    *,
    model: str,
    tag: str | None,
    data: str,
    output: Path,
    start_from: Path | None,
    install: bool,
    limit: int | None,
    held_out: float,
    device: str,
    half: bool,
    checkpoint_steps: int,
    workers: int,
    cost_of: "Callable[[TemporalClassifier], HaHCost] | None" = None,
    **changes: Any,
) -> None:
    """Train a network of ours, show it, and write weights, log and curves.

    `command` is for the record ("pcbench train hah"), `recipe` what the user's values (`changes`; None where there is
    none) alter, `cost_of` gives the HaH cost of a model for the recipe that has one; the others are the options.

    Raises:
        UserError: see `load_training_and_test`, `examples_of`, `ClassifierTraining`; also a folder of another run.
    """
    import shutil
    from dataclasses import replace

    from pcbench.cli.train._display import display
    from pcbench.errors import UserError
    from pcbench.training.classifier import WEIGHTS_FILE, ClassifierTraining, save_weights, start_with
    from pcbench.training.curves import draw_classifier
    from pcbench.training.distributed import processes
    from pcbench.training.examples import examples_of
    from pcbench.training.folder import TrainingFolder
    from pcbench.training.parts import load_training_and_test
    from pcbench.training.scratch import from_scratch

    how = replace(recipe, **{name: value for name, value in changes.items() if value is not None})
    network, weights, installed = from_scratch(model, tag, how.seed)
    if install and installed is None:
        raise UserError(f"{network.name}, weights {weights.tag!r}: they come with this package; leave out --install")
    start = start_with(network, start_from) if start_from is not None else None
    if how.timesteps and not network.has_dynamics:
        how = replace(how, timesteps=0)
    cost = cost_of(network) if cost_of is not None else None
    with processes(device) as group:
        both = load_training_and_test(data, weights.data, limit=limit, held_out=held_out)
        examples, others = (examples_of(images, network.preprocessing, workers) for images in both)
        training = ClassifierTraining(
            network, examples, others, how, group, cost=cost, checkpoint_steps=checkpoint_steps
        )
        arguments = {"recipe": command, "model": network.name, "tag": weights.tag, **asdict(how)}
        arguments |= {"configuration": network.provenance["configuration"], "cost": asdict(cost) if cost else None}
        if start is not None:
            arguments["start"] = start
        arguments |= {"data": examples.name, "images": len(examples), "contents": examples.fingerprint()}
        folder = TrainingFolder(output, arguments | {"processes": group.world}) if group.first else None
        with display(network.name, shown=group.first) as show:
            rows = training.run(folder, lambda at: show(at.step, at.steps, _line(at.row) if at.row else None))
        if folder is None:
            return
        started = "" if start is None else f" --start-from (file with SHA-256 {start})"
        save_weights(training, folder, command=command + started, half=half)
        draw_classifier(rows, output / "curves")
        click.echo(_line(rows[-1]))
        click.echo(f"weights: {output / WEIGHTS_FILE}")
        if install and installed is not None:
            installed.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(output / WEIGHTS_FILE, installed)
            click.echo(f"installed: pcbench run --model {network.name} --weights {weights.tag} uses them now")


def _line(row: "Row") -> str:
    """One line for an epoch."""
    accuracies = [float(value) for name, value in row.items() if name.startswith("accuracy_t")]
    reached = f"{100 * accuracies[0]:.2f} %"
    if len(accuracies) > 1:
        reached = f"{100 * accuracies[0]:.2f} % at t = 0, {100 * accuracies[-1]:.2f} % at t = {len(accuracies) - 1}"
    return (
        f"epoch {row['epoch']}: loss {float(row['train_loss']):.4f}, test accuracy {reached}, "
        f"{float(row['images_per_second']):.0f} images/s"
    )
