"""What a registered model is: one literal with its weights, their files and their preprocessing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from pcbench.models.base import Preprocessing, TemporalClassifier
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
        num_classes: length of the logits.
        data: name of the data set that the weights are for ("imagenet", "cifar10").
        sources: files by role ("backbone", "feedback", "network"); empty for "random".
        options: arguments for the builder that belong to these weights (tuned hyperparameters, width, ...).
        description: one line.
        timesteps: default T with these weights; None for the model's.
        network: name of the model whose network these weights are for; None for the model that lists them.
    """

    tag: str
    preprocessing: Preprocessing
    num_classes: int
    data: str
    sources: Mapping[str, WeightSource] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    description: str = ""
    timesteps: int | None = None
    network: str | None = None

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
            `weights.tag` is "random", drawn with the seed. Raises UserError when an option is unknown or a file is
            missing or wrong.
        weights: in the order in which they are tried when the user names none. "random" is added by itself.
        timesteps: default T; 0 for a feedforward network.
        baseline: name of the feedforward network to compare with; None for one that is its own.
        options: names of the options that `build` knows, with one line of help each.
    """

    name: str
    family: str
    description: str
    build: Callable[["ModelSpec", Weights, Mapping[str, object], int], TemporalClassifier]
    weights: tuple[Weights, ...]
    timesteps: int = 0
    baseline: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def own_weights(self) -> tuple[Weights, ...]:
        """The weights that are for this very network."""
        return tuple(entry for entry in self.weights if entry.network is None)

    def with_weights_of(self, other: "ModelSpec") -> "ModelSpec":
        """This model, which falls back on the weights of its counterpart for other images where its own are missing."""
        return replace(self, weights=(*self.weights, *(replace(entry, network=other.name) for entry in other.weights)))


MODELS = Registry[ModelSpec]("model", package="pcbench.models.zoo", entry_points="pcbench.models")

# Models by name from elsewhere: "timm:resnet18" asks the source "timm" for the model "resnet18".
MODEL_SOURCES = Registry[Callable[[str], ModelSpec]]("source of models", package="pcbench.models.zoo")
