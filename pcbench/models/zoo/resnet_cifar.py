"""ResNet-18 for CIFAR-10 with the weights that the package pyautoattack carries among its examples."""

from importlib import import_module
from pathlib import Path

from torch import nn

from pcbench.models.base import Preprocessing
from pcbench.models.feedforward import ROLE, feedforward_spec, load_state, read_state
from pcbench.models.sources import InstalledFile
from pcbench.models.spec import MODELS, Weights


def _make(weights: Weights) -> nn.Module:
    """The ImageNet network with the usual first layer for small images: 3 x 3, stride 1, and no pooling."""
    network: nn.Module = import_module("torchvision.models").resnet18(num_classes=weights.num_classes)
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def _load(network: nn.Module, weights: Weights, path: Path) -> None:
    state = {  # the file's names and torchvision's
        name.replace(".shortcut.", ".downsample.").replace("linear.", "fc."): tensor
        for name, tensor in read_state(path).items()
    }
    load_state(network, state, f"weights {path.name}")


RESNET18_CIFAR = feedforward_spec(
    "resnet18-cifar",
    "ResNet-18 for 32 x 32 images, 11 M parameters",
    (
        Weights(
            tag="cifar10",
            preprocessing=Preprocessing((32, 32), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            num_classes=10,
            data="cifar10",
            sources={
                ROLE: InstalledFile(
                    package="pyautoattack",
                    file="examples/model_test.pt",
                    sha256="399f52da9f914c323fa5a6096d60f460a3449a59b64a6405200c1e629f8425a7",
                    distribution="pyautoattack",
                    version="0.2.0",
                )
            },
            description="of the package pyautoattack",
        ),
    ),
    _make,
    _load,
)
MODELS.register(RESNET18_CIFAR.name, RESNET18_CIFAR)
