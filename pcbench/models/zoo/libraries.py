"""Feedforward networks of torchvision and timm: by source ("timm:NAME", "torchvision:NAME"), and the baselines."""

from collections.abc import Mapping
from dataclasses import replace

from pcbench.models.base import IMAGENET_224
from pcbench.models.feedforward import (
    timm_network,
    timm_spec,
    timm_weights,
    torchvision_network,
    torchvision_spec,
    torchvision_weights,
)
from pcbench.models.spec import MODEL_SOURCES, MODELS, ModelSpec
from pcbench.models.zoo.cifar import VGG16_CIFAR


def _timm(rest: str, _: Mapping[str, object]) -> ModelSpec:
    return timm_spec(rest)


def _torchvision(rest: str, _: Mapping[str, object]) -> ModelSpec:
    return torchvision_spec(rest)


MODEL_SOURCES.register("timm", _timm)
MODEL_SOURCES.register("torchvision", _torchvision)

# What both libraries say about these weights, here so that neither is imported but for its own networks.
_EFFICIENTNET_B0 = replace(IMAGENET_224, interpolation="bicubic")
_RESNET50_V2 = replace(IMAGENET_224, resize=232)

VGG16 = replace(
    torchvision_network(
        "vgg16", "vgg16", (torchvision_weights("imagenet1k", "VGG16_Weights.IMAGENET1K_V1", IMAGENET_224),)
    ),
    counterpart=VGG16_CIFAR.name,
)
RESNET18 = torchvision_network(
    "resnet18", "resnet18", (torchvision_weights("imagenet1k", "ResNet18_Weights.IMAGENET1K_V1", IMAGENET_224),)
)
RESNET50 = torchvision_network(
    "resnet50",
    "resnet50",
    (
        torchvision_weights("imagenet1k", "ResNet50_Weights.IMAGENET1K_V1", IMAGENET_224),
        torchvision_weights("imagenet1k-v2", "ResNet50_Weights.IMAGENET1K_V2", _RESNET50_V2),
    ),
)
EFFICIENTNET_B0 = timm_network(
    "efficientnet-b0", "efficientnet_b0", (timm_weights("imagenet1k", "efficientnet_b0", "ra_in1k", _EFFICIENTNET_B0),)
)

for _spec in (VGG16, RESNET18, RESNET50, EFFICIENTNET_B0):
    MODELS.register(_spec.name, _spec)
