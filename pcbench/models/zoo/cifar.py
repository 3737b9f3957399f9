"""VGG16 for CIFAR-10, the baseline of the Hebbian family and the backbone of its predictive member."""

from collections.abc import Iterator, Mapping

from torch import nn

from pcbench.models.base import FeedforwardClassifier, Preprocessing, TemporalClassifier
from pcbench.models.options import Json, Option, number
from pcbench.models.own import own_network, trained_here
from pcbench.models.predictive.build import (
    PUBLISHED,
    TUNED,
    feedback_file_name,
    predictive_spec,
    predictive_weights,
    shipped_configuration,
    with_values,
)
from pcbench.models.predictive.config import PredictiveConfig, read_config
from pcbench.models.shipped import tuned_values, weights_file
from pcbench.models.spec import MODELS, ModelSpec, Weights, WeightSource
from pcbench.models.vgg import CIFAR10, CONVOLUTIONS, VGG16, Convolution, vgg16

WIDTH = Option("factor on the channels; 1 is the published width", number)


def configuration(weights: Weights, options: Mapping[str, Json]) -> tuple[float, Convolution]:
    """(width, kind of convolution), from the weights' own options and the user's."""
    merged = {**weights.options, **options}
    kind = merged.get("convolutions", "implicit")
    return float(str(merged.get("width", 1.0))), next(known for known in CONVOLUTIONS if known == kind)


def build_vgg16(spec: ModelSpec, weights: Weights, options: Mapping[str, Json], seed: int) -> TemporalClassifier:
    """The baseline as a classifier."""
    width, kind = configuration(weights, options)
    network, record = own_network(
        lambda: vgg16(width, weights.num_classes, kind),
        spec.name,
        {"width": width, "convolutions": kind},
        weights,
        seed,
    )
    model = FeedforwardClassifier(network, weights.num_classes, weights.preprocessing)
    model.provenance = record
    return model


def cifar10_weights(model: str, recipe: str, tag: str, description: str, **options: object) -> Weights:
    """Weights of a network that one of our recipes trains on CIFAR-10."""
    source = trained_here(model, tag, recipe)
    return Weights(tag, CIFAR10, 10, "cifar10", {"network": source}, options, description)


def _register(name: str, description: str, kind: Convolution) -> ModelSpec:
    spec = ModelSpec(
        name=name,
        family="feedforward",
        description=description,
        build=build_vgg16,
        weights=(
            cifar10_weights(name, "classifier", "cifar10", "full width", convolutions=kind),
            cifar10_weights(name, "classifier", "cifar10-half", "half width", convolutions=kind, width=0.5),
        ),
        options={"width": WIDTH},
    )
    MODELS.register(name, spec)
    return spec


VGG16_CIFAR = _register(
    "vgg16-cifar", "VGG16 for 32 x 32 images, implicitly normalised weights, ReLU before batch norm", "implicit"
)
_register("vgg16-cifar-plain", "VGG16 for 32 x 32 images with plain convolutions, ReLU before batch norm", "plain")


def _configure(backbone: nn.Module, preprocessing: Preprocessing, options: Mapping[str, Json]) -> PredictiveConfig:
    """The shipped configuration for the backbone's width."""
    assert isinstance(backbone, VGG16)
    names = {512: "pvgg16-cifar", 256: "pvgg16-cifar-half"}  # channels before the readout
    return read_config(shipped_configuration(names[backbone.classifier.in_features]))


def _feedback(tag: str) -> WeightSource:
    command = f"pcbench train feedback --model pvgg16-cifar --weights {tag} --data CIFAR10 --output DIR --install"
    return weights_file(feedback_file_name("pvgg16-cifar", tag), command)


def _predictive_weights() -> Iterator[Weights]:
    for entry in VGG16_CIFAR.weights:
        made = predictive_weights(entry, _feedback(entry.tag))
        found = tuned_values(f"pvgg16-cifar-{entry.tag}")
        yield made if found is None else with_values(made, entry.tag, TUNED, found.options, found.timesteps)
        yield with_values(made, f"{entry.tag}-published", "hyperparameters of the published experiments", PUBLISHED)


PVGG16_CIFAR = predictive_spec(
    "pvgg16-cifar",
    "vgg16-cifar with predictive-coding dynamics, 5 PCoders at the published points",
    VGG16_CIFAR,
    _configure,
    tuple(_predictive_weights()),
    timesteps=4,
)
MODELS.register(PVGG16_CIFAR.name, PVGG16_CIFAR)
