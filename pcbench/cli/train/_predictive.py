"""What the recipes for predictive networks share: their options, and what makes a training what it is."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
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
    click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder; a second start resumes."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
    click.option("--workers", default=2, show_default=True, help="Processes that read images."),
    click.option("--seed", default=0, show_default=True),
)


def predictive_options(command: Command) -> Command:
    """The options of every recipe for predictive networks."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def arguments(
    recipe: str, network: "PredictiveClassifier", images: "ImageSet", settings: Mapping[str, object]
) -> dict[str, object]:
    """What makes a training what it is: the same again resumes in its folder, anything else is refused there."""
    ids = hashlib.sha256("\n".join(images.ids).encode()).hexdigest()
    about = {"recipe": recipe, "model": network.name, "weights": network.weights, **settings}
    return about | {"data": images.name, "images": len(images), "ids": ids}
