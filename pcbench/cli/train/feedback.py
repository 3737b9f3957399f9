"""`pcbench train feedback`: the feedback weights of a predictive network."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pcbench.cli.train._predictive import arguments, for_method, predictive_options

if TYPE_CHECKING:
    from pcbench.data.images import ImageSet
    from pcbench.models.predictive.classifier import PredictiveClassifier
    from pcbench.training.distributed import Processes
    from pcbench.training.folder import Row


@click.command("feedback")
@predictive_options
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder; a second start resumes. [default: feedback/ and the names of model and weights]",
)
@click.option(
    "--method",
    type=click.Choice(["least-squares", "gradient"]),
    default="least-squares",
    show_default=True,
    help="Solve every predictor exactly, in one pass over the images, or descend.",
)
@click.option("--held-out", type=float, help="Share of the images to choose ridges, or stop, on. [default: 0.1]")
@click.option("--batch-size", type=int, help="gradient: over all processes together. [default: 32; gradient: 64]")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="Of the networks. [default: float32]")
@click.option("--limit", type=int, help="Use this many of the images.")
@click.option("--half/--no-half", default=True, show_default=True, help="Store the weights in half precision.")
@click.option("--install", is_flag=True, help="At the end, also put the weights where the model looks for them.")
@click.option("--refinements", type=int, help="least-squares: passes that allow for a ReLU behind. [default: 0]")
@click.option("--epochs", type=int, help="gradient: passes over the images, at most. [default: 60]")
@click.option("--optimiser", type=click.Choice(["adamw", "sgd", "rmsprop"]), help="gradient. [default: adamw]")
@click.option("--learning-rate", type=float, help="gradient: at its highest. [default: 0.002]")
@click.option("--weight-decay", type=float, help="gradient. [default: 0]")
@click.option("--schedule", type=click.Choice(["cosine", "constant"]), help="gradient. [default: cosine]")
@click.option("--warmup", type=float, help="gradient: share of the steps in which the rate rises. [default: 0.02]")
@click.option("--patience", type=int, help="gradient: epochs without a better score; 0: never stop. [default: 0]")
@click.option("--augment/--no-augment", default=None, help="gradient: crops and mirror images. [default: augment]")
@click.option("--crop-scale", type=float, help="gradient: least share of an image in a crop. [default: 0.35]")
@click.option(
    "--start",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="gradient: begin with these feedback weights, e.g. those of least squares. [default: random ones]",
)
@click.option("--checkpoint-steps", type=int, help="gradient: keep the state after so many steps. [default: 500]")
def command(
    model: str,
    weights: str | None,
    data: str,
    output: Path | None,
    device: str,
    workers: int,
    seed: int,
    method: str,
    limit: int | None,
    half: bool,
    install: bool,
    **given: Any,
) -> None:
    """Make the feedback weights of a predictive network from clean images, without labels.

    Every predictor learns to predict the layer below from the layer's activation at t = 0. Least squares are exact for
    predictors that end in one convolution, perhaps with a ReLU behind it; about 1,000 images are enough, and a run that
    was interrupted starts over. Gradient descent takes any predictor; the same command goes on where it stopped,
    and several processes share it: torchrun --nproc-per-node 4 --no-python pcbench train feedback --method gradient ...

    Writes into the output folder: feedback.safetensors, log.csv (for gradient descent also curves.png and the state to
    go on from).
    """
    import shutil

    from pcbench.data.images import choose_positions
    from pcbench.models.predictive.build import feedback_file_name
    from pcbench.training.distributed import processes
    from pcbench.training.feedback import WEIGHTS_FILE, FeedbackRecipe
    from pcbench.training.feedback_solution import SolutionRecipe
    from pcbench.training.parts import load_training_images
    from pcbench.training.start import feedback_place, without_feedback

    extra = {name: given.pop(name) for name in ("start", "checkpoint_steps")}
    kind = FeedbackRecipe if method == "gradient" else SolutionRecipe
    others = () if method == "gradient" else tuple(name for name, value in extra.items() if value is not None)
    how: Any = kind(
        **for_method(kind, method, given, others), **({"seed": seed} if method == "gradient" else {"half": half})
    )
    images = load_training_images(data)
    if limit is not None:
        images = images.subset(choose_positions(images, limit))
    with processes(device) as group:
        network = without_feedback(model, weights, group.device, seed)
        target = feedback_place(model, network.weights) if install else None
        if output is None:
            output = Path("feedback") / feedback_file_name(network.name, network.weights).removesuffix(".safetensors")
        act = _descend if method == "gradient" else _solve
        act(network, images, how, group, output, workers=workers, half=half, seed=seed, **extra)
        if not group.first:
            return
    click.echo(f"weights: {output / WEIGHTS_FILE}")
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(output / WEIGHTS_FILE, target)
        click.echo(f"installed: pcbench run --model '{model}' --weights {network.weights} uses them now")


def _solve(
    network: "PredictiveClassifier",
    images: "ImageSet",
    how: Any,
    group: "Processes",
    output: Path,
    *,
    workers: int,
    half: bool,
    seed: int,
    **_: object,
) -> None:
    """Least squares; the folder of a finished one only shows what it found."""
    from dataclasses import asdict

    from pcbench.cli.train._display import display
    from pcbench.errors import UserError
    from pcbench.training.feedback import WEIGHTS_FILE, save_weights
    from pcbench.training.feedback_solution import FeedbackSolution
    from pcbench.training.folder import TrainingFolder

    if group.world > 1:
        raise UserError("least squares take one process; start it without torchrun, or with --method gradient")
    solution = FeedbackSolution(network, images, how, group.device, workers=workers)
    folder = TrainingFolder(output, arguments("feedback", network, images, {**asdict(how), "seed": seed}))
    state = folder.load_state()
    if state is None:
        with display(network.name) as show:
            rows = solution.run(lambda at: show(at.step, at.steps, None))
        recipe, held_out = how.describe(), len(solution.held_out)
        save_weights(network, images, held_out, recipe, output / WEIGHTS_FILE, half=half)
        folder.write_log(rows)
        folder.save_state({"rows": rows})
    else:
        rows = state["rows"]
    for row in rows:
        click.echo(_solved_line(row))


def _descend(
    network: "PredictiveClassifier",
    images: "ImageSet",
    how: Any,
    group: "Processes",
    output: Path,
    *,
    workers: int,
    half: bool,
    seed: int,
    start: Path | None,
    checkpoint_steps: int | None,
) -> None:
    """Gradient descent, from its state where the folder has one."""
    from dataclasses import asdict

    from pcbench.cli.train._display import display
    from pcbench.models.feedback_weights import load_feedback_weights
    from pcbench.training.curves import draw_feedback
    from pcbench.training.feedback import WEIGHTS_FILE, FeedbackTraining, save_weights
    from pcbench.training.folder import TrainingFolder

    begun = None if start is None else load_feedback_weights(network, start).checksum
    steps = 500 if checkpoint_steps is None else checkpoint_steps
    training = FeedbackTraining(
        network, images, how, group, workers=workers, start=start is not None, checkpoint_steps=steps
    )
    about = arguments("feedback", network, images, {**asdict(how), "processes": group.world, "start": begun})
    folder = TrainingFolder(output, about) if group.first else None
    with display(network.name, shown=group.first) as show:
        outcome = training.run(folder, lambda at: show(at.step, at.steps, _epoch_line(at.row) if at.row else None))
    if folder is not None:
        settings = ", ".join(f"{name} {value}" for name, value in asdict(how).items())
        recipe = f"gradient descent, {settings}; weights of epoch {outcome.best['epoch']}"
        save_weights(network, images, len(training.held_out), recipe, output / WEIGHTS_FILE, half=half)
        draw_feedback(outcome.rows, output / "curves")
        click.echo(f"best: {_epoch_line(outcome.best)}")


def _solved_line(row: "Row") -> str:
    """One line for a PCoder."""
    explained, linear = (100 * float(row[name]) for name in ("explained_variance", "explained_variance_linear"))
    line = f"PCoder {row['pcoder']}: explains {explained:.1f} % of the layer below on held-out images"
    if explained != linear:
        line += f", {linear:.1f} % without its ReLU"
    return f"{line}; ridge {float(row['ridge']):.0e}, {row['unknowns']} values in a window"


def _epoch_line(row: "Row") -> str:
    """One line for an epoch: what each PCoder explains of the layer below."""
    text = f"epoch {row['epoch']}: rate {row['learning_rate']:.2g}, {row['images_per_second']:.0f} images/s"
    explained = [float(value) for name, value in row.items() if name.startswith("explained_variance_")]
    if explained:
        text += ", explained " + " ".join(f"{100 * value:.1f}" for value in explained) + " %"
    else:
        text += f", loss {float(row['score']):.4g}"
    return text
