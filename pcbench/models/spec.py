"""What a registered model is: one literal with its weights, their files and their preprocessing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pcbench.models.base import Preprocessing, TemporalClassifier
from pcbench.models.options import Json, Option
from pcbench.registry import Registry


class WeightSource(Protocol):
    """Where one file of weights lies, or would lie."""

    def at_hand(self) -> bool:
        """Whether the file can be read now, without network."""

    def describe(self) -> str:
        """One line: which file, where it is looked for, and how to get it."""

    def path(self) -> Path:
        """The file, verified; downloaded first where its library does that. Raises UserError when it cannot be had."""


@dataclass(frozen=True)
class Weights:
    """One set of weights of a model, with what was fixed when they were trained.

    Attributes:
        tag: as in timm ("imagenet1k", "cifar10").
        preprocessing: that the weights were trained with.
        num_classes: length of the logits; 0 where only the network itself knows.
        data: whose classes the weights know: the name of a label space ("imagenet", "cifar10").
        sources: files by role ("backbone", "feedback", "network"); empty for "random".
        options: arguments for the builder that belong to these weights (tuned hyperparameters, width, ...).
        description: one line.
        timesteps: default T with these weights; None for the model's.
        baseline: tag with which the model's baseline has the same weights, where that is another tag.
    """

    tag: str
    preprocessing: Preprocessing
    num_classes: int
    data: str
    sources: Mapping[str, WeightSource] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    description: str = ""
    timesteps: int | None = None
    baseline: str | None = None

    def missing(self) -> list[str]:
        """One line for each file that is not at hand."""
        return [source.describe() for source in self.sources.values() if not source.at_hand()]


@dataclass(frozen=True)
class ModelSpec:
    """A registered model.

    Attributes:
        name: what users type.
        family: "feedforward", "predictive", "hebbian", "recurrent" or "control".
        description: one line.
        build: makes the network: build(spec, weights, options, seed) with the parameters of `weights` loaded, or, when
            `weights.tag` is "random", drawn with the seed. Raises UserError when a file is missing or wrong, or an
            option is none for this network.
        weights: in the order in which they are tried when the user names none. "random" is added by itself.
        timesteps: default T; 0 for a feedforward network.
        baseline: name of the feedforward network to compare with; None for one that is its own.
        options: that `build` knows.
        counterpart: name of the model for other images that the command line runs, under that name, where this one
            has no weights at hand.
        source: SHA-256 over the source of a network of the user's own; "" for those of this package.
    """

    name: str
    family: str
    description: str
    build: Callable[["ModelSpec", Weights, Mapping[str, Json], int], TemporalClassifier]
    weights: tuple[Weights, ...]
    timesteps: int = 0
    baseline: str | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    counterpart: str | None = None
    source: str = ""


def _adopt(name: str, thing: object) -> ModelSpec:
    from pcbench.models.foreign import foreign_spec  # here: it is made of what is above

    return foreign_spec(name, thing)


MODELS = Registry[ModelSpec]("model", package="pcbench.models.zoo", entry_points="pcbench.models", adopt=_adopt)

Source = Callable[[str, Mapping[str, object]], ModelSpec]
"""(what follows the colon, the options in the name) -> the model. Raises UserError: there is none."""

# Models by name from elsewhere: "timm:resnet18" asks the source "timm" for the model "resnet18".
MODEL_SOURCES = Registry[Source]("source of models", package="pcbench.models.zoo")
