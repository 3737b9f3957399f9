"""`pcbench train classifier`: a feedforward network."""

from typing import Any

import click

from pcbench.cli.train._classification import train, training_options


@click.command("classifier")
@training_options
def command(**options: Any) -> None:
    """Train a feedforward network, such as vgg16-cifar, from random parameters.

    By default: SGD with Nesterov momentum, one cycle of the learning rate, label smoothing 0.1, a running mean of the
    parameters, bfloat16; 30 epochs. A training that was interrupted goes on with the same command. Several processes:
    torchrun --nproc-per-node 4 --no-python pcbench train classifier ...

    Writes into the output folder: network.safetensors, log.csv, curves.png, and the state to go on from.
    """
    from pcbench.errors import UserError
    from pcbench.models.resolve import find
    from pcbench.training.recipes import CLASSIFIER

    spec = find(options["model"]).spec
    if spec.timesteps:
        raise UserError(f"{spec.name} has dynamics; `pcbench train convrnn` trains recurrent networks")
    train("pcbench train classifier", CLASSIFIER, **options)
