"""`pcbench train hyperparameters`: how strongly each term of the dynamics acts, tuned on noisy images."""

from pathlib import Path
from typing import Any

import click


def _sigmas(context: click.Context, option: click.Parameter, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers like 0.25,0.5") from None


@click.command("hyperparameters")
@click.option("--model", required=True, help="A predictive network, e.g. pefficientnet-lite0.")
@click.option("--weights", help="A tag of the model. [default: the first at hand]")
@click.option("--data", required=True, help="Labelled images: a folder of class folders, or a registered name.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the tuning; resumes there.")
@click.option("--epochs", default=5, show_default=True, help="Passes over the tuning images.")
@click.option("--batch-size", default=16, show_default=True)
@click.option("--timesteps", default=4, show_default=True, help="T; the loss is summed over t = 0..T.")
@click.option("--sigma", default="0.25,0.5,0.75,1,2", show_default=True, callback=_sigmas, help="Noise levels.")
@click.option("--learning-rate", default=0.01, show_default=True, help="For feedforward, feedback and memory.")
@click.option("--pc-learning-rate", default=1e-4, show_default=True, help="For the weight of the error term.")
@click.option(
    "--gradient",
    type=click.Choice(["exact", "truncated"]),
    default="exact",
    show_default=True,
    help="truncated: the error gradient is a constant, as in published code.",
)
@click.option("--held-out", default=0.5, show_default=True, help="Share of the images that are never tuned on.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--workers", default=0, show_default=True, help="Processes that read images.")
@click.option("--seed", default=0, show_default=True)
@click.option("--limit", type=int, help="Use this many of the images.")
def command(
    model: str,
    weights: str | None,
    data: str,
    output: Path,
    device: str,
    workers: int,
    limit: int | None,
    **recipe: Any,
) -> None:
    """Tune feedforward, feedback and pc of a predictive network, on noisy images that are kept apart from the rest.

    Writes into the output folder: hyperparameters.toml (values, the ids of the images that were tuned on, and options
    for `pcbench run`), log.csv, and the state to go on from.
    """
    import hashlib
    from dataclasses import asdict

    import tomlkit

    from pcbench.data.images import choose_positions
    from pcbench.training.display import display
    from pcbench.training.distributed import processes
    from pcbench.training.folder import TrainingFolder, write_whole
    from pcbench.training.hyperparameters import Tuning, TuningRecipe, options_of
    from pcbench.training.parts import load_training_images
    from pcbench.training.start import label_space, predictive

    how = TuningRecipe(**recipe)
    images = load_training_images(data, label_space(model, weights))
    if limit is not None:
        images = images.subset(choose_positions(images, limit))
    with processes(device) as group:
        if group.world > 1:
            raise click.UsageError("hyperparameters are tuned by one process; start it without torchrun")
        network = predictive(model, weights, group.device, how.seed)
        tuning = Tuning(network, images, how, group, workers)
        ids = hashlib.sha256("\n".join(images.ids).encode()).hexdigest()
        arguments = {"recipe": "hyperparameters", "model": network.name, "weights": network.weights, **asdict(how)}
        arguments |= {"checksums": network.provenance.get("sha256"), "data": images.name, "ids": ids}
        folder = TrainingFolder(output, arguments)
        with display(network.name) as show:
            tuning.run(folder, lambda step, steps, row: show(step, steps, _line(row) if row else None))
    values = tuning.shares.values()
    options = dict(options_of(values))
    document = tomlkit.document()
    document.update({"model": network.name, "weights": network.weights, "scaling": network.network.scaling})
    document["options"] = options
    document["pcoders"] = values
    document["tuning"] = {"data": images.name, **asdict(how), "sigma": list(how.sigma)}
    document["images"] = {"tuned_on": [images.ids[n] for n in tuning.tuned], "never_tuned_on": len(tuning.held_out)}
    write_whole(output / "hyperparameters.toml", tomlkit.dumps(document).encode())
    click.echo(_line(tuning.rows[-1]))
    joined = "&".join(f"{name}={text}" for name, text in options.items())
    click.echo(f"pcbench run --model '{network.name}{'&' if '?' in network.name else '?'}{joined}' uses these values")


def _line(row: dict[str, float | int | str]) -> str:
    accuracies = [float(value) for name, value in row.items() if name.startswith("held_out_accuracy_")]
    text = f"epoch {row['epoch']}: loss {float(row['tuning_loss']):.4g}, held out {float(row['held_out_loss']):.4g}"
    if accuracies:
        text += f", accuracy {100 * accuracies[0]:.1f} % at t = 0, {100 * accuracies[-1]:.1f} % at the last"
    return text
