"""`pcbench train hah`: a Hebbian/anti-Hebbian network."""

from typing import Any

import click

from pcbench.cli.train._classification import train, training_options


@click.command("hah")
@training_options
@click.option("--recipe", type=click.Choice(["published", "short"]), default="published", show_default=True)
@click.option("--demote", type=float, help="lambda, the weight of the weak channels. [default: the variant's]")
@click.option("--ratio", type=float, help="Share of strong channels. [default: 0.1]")
@click.option("--alphas", help="Weight of each block's cost, e.g. 0.0045,0.0025,... [default: the variant's]")
def command(recipe: str, demote: float | None, ratio: float | None, alphas: str | None, **options: Any) -> None:
    """Train a Hebbian/anti-Hebbian network: hah-vgg16 or one of its ablations.

    The published recipe: Adam 1e-3, a tenth after 60 and 80 % of 100 epochs, batch 128; every HaH block also climbs a
    cost of its own. "short" is the same in 30 epochs. A training that was interrupted goes on with the same command.

    Writes into the output folder: network.safetensors, log.csv, curves.png, and the state to go on from.
    """
    from dataclasses import replace

    from pcbench.errors import UserError, did_you_mean
    from pcbench.models.base import TemporalClassifier
    from pcbench.models.hah import HaHCost, read_alphas
    from pcbench.models.zoo.hah import VARIANTS
    from pcbench.training.recipes import HAH, HAH_SHORT

    given: dict[str, Any] = {"demote": demote, "ratio": ratio, "alphas": read_alphas(alphas) if alphas else None}

    def cost_of(model: TemporalClassifier) -> HaHCost:
        if model.name not in VARIANTS:
            raise UserError(f"{model.name} is no Hebbian network; {did_you_mean(model.name, VARIANTS)}")
        return replace(VARIANTS[model.name].cost, **{name: value for name, value in given.items() if value is not None})

    train("pcbench train hah", HAH if recipe == "published" else HAH_SHORT, cost_of=cost_of, **options)
