"""`pcbench train feedback`: the feedback weights of a predictive network."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pcbench.cli.train._predictive import arguments, predictive_options

if TYPE_CHECKING:
    from pcbench.training.folder import Row


@click.command("feedback")
@predictive_options
@click.option(
    "--start",
    type=click.Choice(["random", "least-squares"]),
    default="random",
    show_default=True,
    help="least-squares: solve predictors that are linear exactly, in one pass, before the epochs.",
)
@click.option("--epochs", default=60, show_default=True, help="Passes over the images, at most.")
@click.option("--batch-size", default=64, show_default=True, help="Over all processes together.")
@click.option("--optimiser", type=click.Choice(["adamw", "sgd", "rmsprop"]), default="adamw", show_default=True)
@click.option("--learning-rate", default=2e-3, show_default=True, help="At its highest.")
@click.option("--weight-decay", default=0.0, show_default=True)
@click.option("--schedule", type=click.Choice(["cosine", "constant"]), default="cosine", show_default=True)
@click.option("--warmup", default=0.02, show_default=True, help="Share of the steps in which the rate rises.")
@click.option("--held-out", default=0.1, show_default=True, help="Share of the images to stop on.")
@click.option("--patience", default=0, show_default=True, help="Epochs without a better score; 0: never stop early.")
@click.option("--augment/--no-augment", default=True, show_default=True, help="Random crops and mirror images.")
@click.option("--crop-scale", default=0.35, show_default=True, help="Smallest share of an image that a crop covers.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--limit", type=int, help="Use this many of the images.")
@click.option("--half/--no-half", default=True, show_default=True, help="Store the weights in half precision.")
@click.option("--checkpoint-steps", default=500, show_default=True, help="Keep the state after so many steps.")
@click.option("--install", is_flag=True, help="At the end, also put the weights where the model looks for them.")
def command(
    model: str,
    weights: str | None,
    data: str,
    output: Path,
    device: str,
    workers: int,
    limit: int | None,
    half: bool,
    checkpoint_steps: int,
    install: bool,
    **recipe: Any,
) -> None:
    """Train the feedback weights of a predictive network on clean images, without labels.

    Every predictor learns to predict the layer below from the layer's activation at t = 0. A training that was
    interrupted goes on with the same command. Several processes:
    torchrun --nproc-per-node 4 --no-python pcbench train feedback ...

    Writes into the output folder: feedback.safetensors, log.csv, curves.png, and the state to go on from.
    """
    import shutil
    from dataclasses import asdict

    from pcbench.data.images import choose_positions
    from pcbench.training.curves import draw_feedback
    from pcbench.training.display import display
    from pcbench.training.distributed import processes
    from pcbench.training.feedback import WEIGHTS_FILE, FeedbackRecipe, FeedbackTraining, save_weights
    from pcbench.training.folder import TrainingFolder
    from pcbench.training.parts import load_training_images
    from pcbench.training.start import feedback_place, without_feedback

    how = FeedbackRecipe(**recipe)
    images = load_training_images(data)
    if limit is not None:
        images = images.subset(choose_positions(images, limit))
    with processes(device) as group:
        network = without_feedback(model, weights, group.device, how.seed)
        target = feedback_place(model, network.weights) if install else None
        training = FeedbackTraining(network, images, how, group, workers=workers, checkpoint_steps=checkpoint_steps)
        about = arguments("feedback", network, images, {**asdict(how), "processes": group.world})
        folder = TrainingFolder(output, about) if group.first else None
        with display(network.name, shown=group.first) as show:
            outcome = training.run(folder, lambda at: show(at.step, at.steps, _line(at.row) if at.row else None))
        if folder is not None:
            save_weights(training, outcome, folder, half=half)
            draw_feedback(outcome.rows, output / "curves")
            click.echo(f"best: {_line(outcome.best)}")
            click.echo(f"weights: {output / WEIGHTS_FILE}")
            if target is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(output / WEIGHTS_FILE, target)
                click.echo(f"installed: pcbench run --model '{network.name}' --weights {network.weights} uses them now")


def _line(row: "Row") -> str:
    """One line for an epoch: what each PCoder explains of the layer below."""
    text = f"epoch {row['epoch']}: rate {row['learning_rate']:.2g}, {row['images_per_second']:.0f} images/s"
    explained = [float(value) for name, value in row.items() if name.startswith("explained_variance_")]
    if explained:
        text += ", explained " + " ".join(f"{100 * value:.1f}" for value in explained) + " %"
    else:
        text += f", loss {float(row['score']):.4g}"
    return text
