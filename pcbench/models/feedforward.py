"""Feedforward networks of timm and torchvision as registered models: builders, weights and their preprocessing."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from pcbench.errors import UserError, did_you_mean
from pcbench.models.base import FeedforwardClassifier, Interpolation, Preprocessing, TemporalClassifier
from pcbench.models.checkpoints import match
from pcbench.models.options import Json
from pcbench.models.own import initialised
from pcbench.models.sources import TimmFile, TorchvisionFile, sha256
from pcbench.models.spec import ModelSpec, Weights, WeightSource

ROLE = "network"
"""Role of the one file of a feedforward network."""

_CROPS = ("center", "squash")  # that Preprocessing can say; timm also has "border"

Make = Callable[[Weights], nn.Module]
Load = Callable[[nn.Module, Weights, Path], None]


@dataclass(frozen=True)
class Unusable:
    """Weights that cannot be had, or not used.

    Attributes:
        what: which, and why, one line.
    """

    what: str

    def at_hand(self) -> bool:
        """Never."""
        return False

    def describe(self) -> str:
        """Which, and why."""
        return self.what

    def path(self) -> Path:
        """Raises UserError."""
        raise UserError(f"weights are missing: {self.describe()}")


def feedforward_spec(name: str, description: str, weights: tuple[Weights, ...], make: Make, load: Load) -> ModelSpec:
    """A feedforward model.

    Args:
        name: see ModelSpec.
        description: see ModelSpec.
        weights: see ModelSpec; their file has the role "network".
        make: makes the network with random parameters, from torch's random number generator.
        load: loads a file into it. Raises UserError when it does not fit.
    """

    def build(spec: ModelSpec, weights: Weights, options: Mapping[str, Json], seed: int) -> TemporalClassifier:
        network = initialised(lambda: make(weights), seed)
        provenance: dict[str, object] = {"seed": seed}
        if ROLE in weights.sources:
            path = weights.sources[ROLE].path()
            load(network, weights, path)
            provenance = {"sha256": {ROLE: sha256(path)}}
        model = FeedforwardClassifier(network, weights.num_classes, weights.preprocessing)
        model.provenance = provenance
        return model

    return ModelSpec(name=name, family="feedforward", description=description, build=build, weights=weights)


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a .safetensors file, or from a pickled one by the restricted unpickler. Raises UserError."""
    from safetensors.torch import load_file

    from pcbench.models.pickles import read_pickled

    try:
        content = load_file(path) if path.suffix == ".safetensors" else read_pickled(path)
    except UserError:
        raise
    except Exception as error:  # safetensors raises its own errors, and KeyError for a dtype that torch lacks
        raise UserError(f"weights {path.name} cannot be read: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"weights {path.name} are not a state dict")
    return content


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a whole state dict, or raise UserError with the first mismatch. Old files lack the batch counters."""
    expected = network.state_dict()
    counters = [name for name in expected if name.endswith("num_batches_tracked")]
    network.load_state_dict(match(state, expected, source, optional=counters), strict=False)  # `match` compared names


def torchvision_spec(architecture: str) -> ModelSpec:
    """A classifier of torchvision, as "torchvision:ARCHITECTURE", with all weights that torchvision has for ImageNet.

    Args:
        architecture: torchvision's name.

    Raises:
        UserError: torchvision has no such classifier.
    """
    models = import_module("torchvision.models")
    known = models.list_models(module=models)
    if architecture not in known:
        raise UserError(f"torchvision has no classifier {architecture!r}; {did_you_mean(architecture, known)}")
    weights = [
        torchvision_weights(
            entry.name.lower(), f"{type(entry).__name__}.{entry.name}", _torchvision_preprocessing(entry)
        )
        for entry in models.get_model_weights(architecture)
        if len(entry.meta.get("categories") or ()) == 1000
    ]
    found = tuple(weights) or (_nothing(f"torchvision's {architecture}"),)
    return torchvision_network(f"torchvision:{architecture}", architecture, found)


def torchvision_weights(tag: str, entry: str, preprocessing: Preprocessing) -> Weights:
    """Weights for ImageNet that torchvision publishes as `entry`, e.g. "VGG16_Weights.IMAGENET1K_V1"."""
    sources: dict[str, WeightSource] = {ROLE: TorchvisionFile(entry)}
    name = entry.rpartition(".")[2]
    return Weights(tag, preprocessing, 1000, "imagenet", sources, description=f"torchvision's {name}")


def torchvision_network(name: str, architecture: str, weights: tuple[Weights, ...]) -> ModelSpec:
    """A classifier of torchvision under a name of ours. Does not import torchvision: that takes seconds."""

    def make(_: Weights) -> nn.Module:
        models = import_module("torchvision.models")
        return cast("nn.Module", models.get_model(architecture, weights=None, **_without_warning(architecture)))

    return feedforward_spec(
        name,
        f"torchvision's {architecture}",
        weights,
        make,
        lambda network, _, path: load_state(network, read_state(path), f"weights {path.name}"),
    )


def timm_spec(architecture: str) -> ModelSpec:
    """A classifier of timm, as "timm:ARCHITECTURE", with all weights that timm publishes.

    Args:
        architecture: timm's name, perhaps with a tag of weights, which then come first ("resnet18.a1_in1k").

    Raises:
        UserError: timm has no such network.
    """
    timm = import_module("timm")
    base, _, preferred = architecture.partition(".")
    if not timm.is_model(base):
        raise UserError(f"timm has no network {base!r}; {did_you_mean(base, timm.list_models())}")
    configs = import_module("timm.models").get_arch_pretrained_cfgs(architecture)
    published = {full.partition(".")[2]: config for full, config in configs.items() if config.hf_hub_id or config.url}
    if preferred and preferred not in published:
        raise UserError(f"timm has no weights {preferred!r} of {base}; {did_you_mean(preferred, published)}")
    weights = [_timm_entry(base, entry, published[entry]) for entry in sorted(published, key=preferred.__ne__)]
    return timm_network(f"timm:{architecture}", base, tuple(weights) or (_nothing(f"timm's {architecture}"),))


def _timm_entry(architecture: str, entry: str, config: Any) -> Weights:
    tag = entry or "pretrained"
    weights = timm_weights(tag, architecture, entry, _timm_preprocessing(config), config.num_classes)
    if config.crop_mode in _CROPS:
        return weights
    refused = Unusable(f"timm's weights {tag!r} want images cropped as {config.crop_mode!r}, which is not done here")
    return replace(weights, sources={ROLE: refused})


def timm_weights(
    tag: str, architecture: str, entry: str, preprocessing: Preprocessing, num_classes: int = 1000
) -> Weights:
    """Weights that timm publishes as `entry`, its tag, e.g. "ra_in1k"; "" for weights without one."""
    return Weights(
        tag,
        preprocessing,
        num_classes,
        "imagenet" if num_classes == 1000 else f"{num_classes} classes",
        {ROLE: TimmFile(f"{architecture}.{entry}" if entry else architecture)},
        {"timm_tag": entry},
        description=f"timm's {entry or 'weights'}",
    )


def timm_network(name: str, architecture: str, weights: tuple[Weights, ...]) -> ModelSpec:
    """A classifier of timm under a name of ours. Does not import timm: that takes seconds."""

    def make(weights: Weights) -> nn.Module:
        network: nn.Module = import_module("timm").create_model(architecture, num_classes=weights.num_classes)
        return network

    def load(network: nn.Module, weights: Weights, path: Path) -> None:
        # timm reads its own files: many need its conversions. It would download; the overlay points to the file.
        tag = weights.options["timm_tag"]
        made = import_module("timm").create_model(
            f"{architecture}.{tag}" if tag else architecture,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path)},
        )
        load_state(network, made.state_dict(), f"weights {path.name}")

    return feedforward_spec(name, f"timm's {architecture}", weights, make, load)


def _nothing(model: str) -> Weights:
    from pcbench.models.base import IMAGENET_224

    sources: dict[str, WeightSource] = {ROLE: Unusable(f"trained weights of {model}, which are not published")}
    return Weights("pretrained", IMAGENET_224, 1000, "imagenet", sources, description="not published")


def _without_warning(architecture: str) -> dict[str, Any]:
    """GoogLeNet and Inception warn unless told how to initialise; both have heads that only training uses."""
    return {"init_weights": True} if architecture in ("googlenet", "inception_v3") else {}


def _torchvision_preprocessing(entry: Any) -> Preprocessing:
    transforms = entry.transforms()
    interpolation: Interpolation = "bicubic" if transforms.interpolation.value == "bicubic" else "bilinear"
    crop = transforms.crop_size[0]
    return Preprocessing(
        (crop, crop), tuple(transforms.mean), tuple(transforms.std), transforms.resize_size[0], interpolation
    )


def _timm_preprocessing(config: Any) -> Preprocessing:
    size = config.test_input_size or config.input_size
    interpolation: Interpolation = "bilinear" if config.interpolation == "bilinear" else "bicubic"
    resize = math.floor(min(size[1:]) / (config.test_crop_pct or config.crop_pct))
    mean, std = tuple(config.mean), tuple(config.std)
    return Preprocessing((size[1], size[2]), mean, std, resize, interpolation, config.crop_mode == "squash")
