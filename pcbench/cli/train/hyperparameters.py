"""`pcbench train hyperparameters`: how strongly each term of the dynamics acts, tuned on noisy images."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pcbench.cli.train._predictive import arguments, for_method, predictive_options

if TYPE_CHECKING:
    from pcbench.training.folder import Row
    from pcbench.training.search import Search


def _list(kind: Callable[[str], Any], example: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def read(context: click.Context, option: click.Parameter, text: str | None) -> tuple[Any, ...] | None:
        try:
            return None if text is None else tuple(kind(part) for part in text.split(","))
        except ValueError:
            raise click.BadParameter(f"{text!r} is not a list of numbers like {example}") from None

    return read


@click.command("hyperparameters")
@predictive_options
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder; a second start resumes.")
@click.option(
    "--method",
    type=click.Choice(["gradient", "search"]),
    default="gradient",
    show_default=True,
    help="Gradient descent on the cross-entropy, or trials, one PCoder at a time.",
)
@click.option("--pcoders", callback=_list(int, "2,5"), help="Which to tune, from 1. [default: all]")
@click.option("--batch-size", type=int, help="[default: 16; search: 50]")
@click.option("--timesteps", type=int, help="T; search chooses one up to it. [default: 4]")
@click.option(
    "--sigma", callback=_list(float, "0.25,0.5"), help="Noise levels. [default: 0.25,0.5,0.75,1,2; search: 0,0.25,0.5]"
)
@click.option("--held-out", type=float, help="Share of the images that are never tuned on. [default: 0.5]")
@click.option("--limit", type=int, help="Use this many images of either part. [default: all; search: 200]")
@click.option("--epochs", type=int, help="gradient: passes over the tuning images. [default: 5]")
@click.option("--learning-rate", type=float, help="gradient: for feedforward, feedback and memory. [default: 0.01]")
@click.option("--pc-learning-rate", type=float, help="gradient: for the weight of the error term. [default: 1e-4]")
@click.option(
    "--gradient",
    type=click.Choice(["exact", "truncated"]),
    help="gradient: truncated takes the error gradient as a constant, as published code does. [default: exact]",
)
@click.option("--trials", type=int, help="search: values to try. [default: 30]")
@click.option(
    "--objective",
    type=click.Choice(["accuracy", "cross-entropy"]),
    help="search: mean over noise levels, at the best timestep. [default: accuracy]",
)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), help="search: of the network. [default: float32]")
def command(
    model: str,
    weights: str | None,
    data: str,
    output: Path,
    device: str,
    workers: int,
    method: str,
    **given: Any,
) -> None:
    """Tune feedforward, feedback and pc of a predictive network, on noisy images that are kept apart from the rest.

    Which images are tuned on follows from their ids alone: those with the smallest hashes are held out, whatever
    the limit, and only they are reported on. A tuning that was interrupted goes on with the same command.

    Writes into the output folder: hyperparameters.toml (values, T, the ids of the images that were tuned on, and
    options for `pcbench run`), log.csv, and the state to go on from.
    """
    import tomlkit

    from pcbench.cli.train._display import display
    from pcbench.errors import UserError
    from pcbench.training.distributed import processes
    from pcbench.training.folder import TrainingFolder, write_whole
    from pcbench.training.hyperparameters import Tuning, TuningRecipe, options_of
    from pcbench.training.parts import load_training_images
    from pcbench.training.search import Search, SearchRecipe
    from pcbench.training.start import label_space, predictive

    kind = TuningRecipe if method == "gradient" else SearchRecipe
    how: Any = kind(**for_method(kind, method, given))
    images = load_training_images(data, label_space(model, weights))
    with processes(device) as group:
        if group.world > 1:
            raise UserError("hyperparameters are tuned by one process; start it without torchrun")
        network = predictive(model, weights, group.device, how.seed)
        tuning: Tuning | Search = (Tuning if method == "gradient" else Search)(network, images, how, group, workers)
        checksums = {"checksums": network.provenance.get("sha256")}
        folder = TrainingFolder(
            output, arguments(f"hyperparameters {method}", network, images, asdict(how) | checksums)
        )
        with display(network.name) as show:
            tuning.run(folder, lambda at: show(at.step, at.steps, _line(at.row) if at.row else None))
    values = [row.values() for row in network.network.hyperparameters]
    options = dict(options_of(values))
    document = tomlkit.document()
    document.update({"model": network.name, "weights": network.weights, "scaling": network.network.scaling})
    document["timesteps"] = tuning.timesteps if isinstance(tuning, Search) else how.timesteps
    document["options"] = options
    document["pcoders"] = values
    settings = {name: value for name, value in asdict(how).items() if value is not None}
    lists = {name: list(value) for name, value in settings.items() if isinstance(value, tuple)}
    document["tuning"] = {"data": images.name, "method": method, **settings, **lists}
    document["images"] = {
        "tuned_on": [images.ids[n] for n in tuning.tuned],
        "reported_on": [images.ids[n] for n in tuning.reported],
    }
    if isinstance(tuning, Search):
        document["reported"] = _compared(tuning)
    write_whole(output / "hyperparameters.toml", tomlkit.dumps(document).encode())
    click.echo(_line(tuning.rows[-1]))
    for name, row in document.get("reported", {}).items():
        click.echo(f"{name}, images never tuned on: " + " ".join(f"{100 * value:.2f}" for value in row["mean"]) + " %")
    joined = "&".join(f"{name}={text}" for name, text in options.items())
    asked = f"{network.name}{'&' if '?' in network.name else '?'}{joined}"
    click.echo(f"pcbench run --model '{asked}' --timesteps {document['timesteps']} uses these values")


def _compared(search: "Search") -> dict[str, dict[str, list[Any]]]:
    """Accuracy over t = 0..T on the reported images, before and after: for each sigma, and their mean."""
    found: dict[str, dict[str, list[Any]]] = {}
    for name, values in (("before", search.start), ("after", search.best)):
        search.use(values)
        accuracy = search.judge(search.reported).accuracy if search.reported else None
        if accuracy is not None:
            found[name] = {"by_sigma": accuracy.tolist(), "mean": accuracy.mean(0).tolist()}
    return found


def _line(row: "Row") -> str:
    """One line for an epoch of gradient descent, or for a trial."""
    if "trial" in row:
        scores = " ".join(f"{100 * float(value):.1f}" for name, value in row.items() if name.startswith("accuracy_"))
        better = ", kept" if row["better"] else ""
        drawn = f"PCoder {row['pcoder']} " if row["pcoder"] else "as it was "
        if row["pcoder"]:
            drawn += " ".join(f"{name} {float(row[name]):.3g}" for name in ("feedforward", "feedback", "pc")) + " "
        return f"trial {row['trial']}: {drawn}accuracy {scores} %, best t = {row['best_timestep']}{better}"
    accuracies = [float(value) for name, value in row.items() if name.startswith("held_out_accuracy_")]
    text = f"epoch {row['epoch']}: loss {float(row['tuning_loss']):.4g}, held out {float(row['held_out_loss']):.4g}"
    if accuracies:
        text += f", accuracy {100 * accuracies[0]:.1f} % at t = 0, {100 * accuracies[-1]:.1f} % at the last"
    return text
