"""`pcbench train RECIPE`: one module a recipe."""

import click

from pcbench.cli.app import Verbs


class Recipes(Verbs):
    """The recipes: the modules of this package."""

    package = "pcbench.cli.train"


@click.command(cls=Recipes)
def command() -> None:
    """Train what a network needs: feedback weights, hyperparameters, whole networks. Seeded and resumable."""
