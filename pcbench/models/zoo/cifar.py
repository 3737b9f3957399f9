"""VGG16 for CIFAR-10, the baseline of the Hebbian family and the backbone of its predictive member."""

from collections.abc import Mapping

from pcbench.errors import UserError, did_you_mean
from pcbench.models.base import FeedforwardClassifier, TemporalClassifier
from pcbench.models.own import own_network, read_number, trained_here
from pcbench.models.spec import MODELS, ModelSpec, Weights
from pcbench.models.vgg import CIFAR10, CONVOLUTIONS, Convolution, vgg16

WIDTH_HELP = "factor on the channels; 1 is the published width"


def configuration(weights: Weights, options: Mapping[str, object]) -> tuple[float, Convolution]:
    """(width, kind of convolution), from the weights' own options and the user's. Raises UserError."""
    merged = {**weights.options, **options}
    kind = str(merged.get("convolutions", "implicit"))
    for known in CONVOLUTIONS:
        if kind == known:
            return read_number(merged, "width", 1.0), known
    raise UserError(f"no convolutions {kind!r}; {did_you_mean(kind, CONVOLUTIONS)}")


def build_vgg16(spec: ModelSpec, weights: Weights, options: Mapping[str, object], seed: int) -> TemporalClassifier:
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


def _register(name: str, description: str, kind: Convolution) -> None:
    MODELS.register(
        name,
        ModelSpec(
            name=name,
            family="feedforward",
            description=description,
            build=build_vgg16,
            weights=(
                cifar10_weights(name, "classifier", "cifar10", "full width", convolutions=kind),
                cifar10_weights(name, "classifier", "cifar10-half", "half width", convolutions=kind, width=0.5),
            ),
            options={"width": WIDTH_HELP},
        ),
    )


_register("vgg16-cifar", "VGG16 for 32 x 32 images, implicitly normalised weights, ReLU before batch norm", "implicit")
_register("vgg16-cifar-plain", "VGG16 for 32 x 32 images with plain convolutions, ReLU before batch norm", "plain")
