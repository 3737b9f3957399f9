"""What the recipes for predictive networks share: their options, and what makes a training what it is."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:  # training imports torch, which --help does without
    from pcbench.data.images import ImageSet
    from pcbench.models.predictive.classifier import PredictiveClassifier

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--model", required=True, help="A predictive network, e.g. pvgg16 or predify:timm:resnet18."),
    click.option("--weights", help="A tag of the model. [default: the first at hand]"),
    click.option("--data", required=True, help="Images: a folder of class folders, or a registered name."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
    click.option("--workers", default=2, show_default=True, help="Processes that read images."),
    click.option("--seed", default=0, show_default=True),
)


def predictive_options(command: Command) -> Command:
    """The options of every recipe for predictive networks, but for --output."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def for_method(recipe: Any, method: str, given: Mapping[str, object], others: Sequence[str] = ()) -> dict[str, Any]:
    """The options that the user gave, if all are the recipe's.

    Args:
        recipe: the dataclass of the method.
        method: its name on the command line.
        given: options by the recipe's names; None where the user gave nothing.
        others: options that were given and are of another method.

    Raises:
        UserError: the first that is not for the method.
    """
    from pcbench.errors import UserError

    known = {field.name for field in fields(recipe)}
    kept = {name: value for name, value in given.items() if value is not None}
    for name in [*kept, *others]:
        if name not in known:
            raise UserError(f"--{name.replace('_', '-')} is not for --method {method}")
    return kept


def arguments(
    recipe: str, network: "PredictiveClassifier", images: "ImageSet", settings: Mapping[str, object]
) -> dict[str, Any]:
    """What makes a training what it is: the same again resumes in its folder, anything else is refused there."""
    ids = hashlib.sha256("\n".join(images.ids).encode()).hexdigest()
    about = {"recipe": recipe, "model": network.name, "weights": network.weights, **settings}
    return about | {"data": images.name, "images": len(images), "ids": ids}
