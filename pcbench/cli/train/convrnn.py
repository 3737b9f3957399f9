"""`pcbench train convrnn`: a convolutional recurrent network."""

from typing import Any

import click

from pcbench.cli.train._classification import train, training_options


@click.command("convrnn")
@training_options
@click.option("--timesteps", type=int, help="T in training. [default: the model's]")
@click.option(
    "--loss-over",
    type=click.Choice(["last", "mean"]),
    default="last",
    show_default=True,
    help="Cross-entropy of the last timestep, or its mean over all of them.",
)
def command(timesteps: int | None, loss_over: str, **options: Any) -> None:
    """Train a convolutional recurrent network, such as convrnn-rgc-shallow-cifar, through time.

    By default: Adam, gradients clipped to norm 1, one cycle of the learning rate; 30 epochs; the loss on the last
    timestep. Which timesteps are supervised decides the shape of accuracy over time. A training that was interrupted
    goes on with the same command. Several processes:
    torchrun --nproc-per-node 4 --no-python pcbench train convrnn ...

    Writes into the output folder: network.safetensors, log.csv, curves.png, and the state to go on from.
    """
    from pcbench.models.resolve import find
    from pcbench.training.recipes import CONVRNN

    steps = find(options["model"]).spec.timesteps if timesteps is None else timesteps
    train("pcbench train convrnn", CONVRNN, timesteps=steps, loss_over=loss_over, **options)
