"""Feedforward networks of torchvision and timm: by source ("timm:NAME", "torchvision:NAME"), and the baselines."""

from pcbench.models.feedforward import timm_spec, torchvision_spec
from pcbench.models.spec import MODEL_SOURCES, MODELS
from pcbench.models.zoo.cifar import VGG16_CIFAR

MODEL_SOURCES.register("timm", timm_spec)
MODEL_SOURCES.register("torchvision", torchvision_spec)

VGG16 = torchvision_spec("vgg16", "vgg16", {"imagenet1k": "IMAGENET1K_V1"}).with_weights_of(VGG16_CIFAR)
RESNET18 = torchvision_spec("resnet18", "resnet18", {"imagenet1k": "IMAGENET1K_V1"})
RESNET50 = torchvision_spec("resnet50", "resnet50", {"imagenet1k": "IMAGENET1K_V1", "imagenet1k-v2": "IMAGENET1K_V2"})
EFFICIENTNET_B0 = timm_spec("efficientnet_b0", "efficientnet-b0", {"imagenet1k": "ra_in1k"})

for _spec in (VGG16, RESNET18, RESNET50, EFFICIENTNET_B0):
    MODELS.register(_spec.name, _spec)
