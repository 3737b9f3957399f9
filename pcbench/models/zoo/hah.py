"""Hebbian/anti-Hebbian networks on CIFAR-10: the published one and its ablations, one row each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from pcbench.models.base import FeedforwardClassifier, TemporalClassifier
from pcbench.models.hah import ALPHAS, HaHCost, hah_vgg16
from pcbench.models.options import Json, Option, one_of
from pcbench.models.own import own_network
from pcbench.models.spec import MODELS, ModelSpec, Weights
from pcbench.models.vgg import CONVOLUTIONS
from pcbench.models.zoo.cifar import WIDTH, cifar10_weights, configuration


@dataclass(frozen=True)
class Variant:
    """One member of the family.

    Attributes:
        description: one line.
        cost: that training climbs.
        normalisation, threshold: whether the HaH blocks have them.
    """

    description: str
    cost: HaHCost = field(default_factory=HaHCost)
    normalisation: bool = True
    threshold: bool = True


VARIANTS: Mapping[str, Variant] = {
    "hah-vgg16": Variant("VGG16 with six Hebbian/anti-Hebbian blocks, lambda 0.1"),
    "hah-vgg16-lambda-1": Variant("hah-vgg16 trained with lambda 1.0", HaHCost(demote=1.0)),
    "hah-vgg16-no-cost": Variant("hah-vgg16 trained without the HaH cost", HaHCost(alphas=(0.0,) * len(ALPHAS))),
    "hah-vgg16-no-normalisation": Variant("hah-vgg16 without divisive normalisation", normalisation=False),
    "hah-vgg16-no-threshold": Variant("hah-vgg16 without the threshold", threshold=False),
}


def build_hah(spec: ModelSpec, weights: Weights, options: Mapping[str, Json], seed: int) -> TemporalClassifier:
    """A variant as a classifier."""
    variant = VARIANTS[spec.name]
    width, kind = configuration(weights, options)
    make = partial(
        hah_vgg16,
        width,
        weights.num_classes,
        kind,
        normalisation=variant.normalisation,
        threshold=variant.threshold,
    )
    network, record = own_network(make, spec.name, {"width": width, "convolutions": kind}, weights, seed)
    model = FeedforwardClassifier(network, weights.num_classes, weights.preprocessing)
    model.provenance = record
    return model


for _name, _variant in VARIANTS.items():
    MODELS.register(
        _name,
        ModelSpec(
            name=_name,
            family="hebbian",
            description=_variant.description,
            build=build_hah,
            weights=(
                cifar10_weights(_name, "hah", "cifar10", "full width"),
                cifar10_weights(_name, "hah", "cifar10-half", "half width", width=0.5),
            ),
            baseline="vgg16-cifar",
            options={
                "width": WIDTH,
                "convolutions": Option("of the seven VGG blocks: implicit or plain", one_of(*CONVOLUTIONS)),
            },
        ),
    )
