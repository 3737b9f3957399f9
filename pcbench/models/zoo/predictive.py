"""Networks with predictive-coding dynamics: the published two, their relatives, and "predify:NAME" for any other."""

from collections.abc import Mapping

from torch import nn

from pcbench.errors import UserError
from pcbench.models.base import Preprocessing
from pcbench.models.predictive.build import (
    feedback_file_name,
    predictive_spec,
    predictive_weights,
    shipped_configuration,
)
from pcbench.models.predictive.config import PredictiveConfig, read_config
from pcbench.models.predictive.placement import automatic_config
from pcbench.models.sources import InstalledFile, UserFile
from pcbench.models.spec import MODEL_SOURCES, MODELS, ModelSpec, WeightSource
from pcbench.models.zoo.efficientnet_lite0 import EFFICIENTNET_LITE0
from pcbench.models.zoo.libraries import EFFICIENTNET_B0, RESNET18, RESNET50, VGG16

TIMESTEPS = 4

# The values that the published experiments ran with; the published configuration files differ.
_EXPERIMENTS: Mapping[str, object] = {"feedforward": 0.8, "feedback": 0.1, "pc": 0.01, "scaling": "none"}


def _feedback(model: str, tag: str, get: str | None = None) -> WeightSource:
    train = f"pcbench train feedback --model '{model}' --data IMAGENET --output DIR --install"
    return UserFile(feedback_file_name(model, tag), get or train)


def _register(
    name: str,
    description: str,
    base: ModelSpec,
    get: str | None = None,
    shipped: Mapping[str, WeightSource] | None = None,
    options: Mapping[str, object] | None = None,
) -> None:
    """Register a network with the shipped configuration of its name.

    Args:
        name: see ModelSpec.
        description: see ModelSpec.
        base: the feedforward model.
        get: command that puts feedback weights into the user's folder; None for training them.
        shipped: feedback weights by tag that need not be got.
        options: hyperparameters other than the configuration's.
    """
    config = read_config(shipped_configuration(name))
    weights = tuple(
        predictive_weights(entry, (shipped or {}).get(entry.tag) or _feedback(name, entry.tag, get), options)
        for entry in base.weights
    )
    MODELS.register(name, predictive_spec(name, description, base, lambda *_: config, weights, TIMESTEPS))


def predify_spec(rest: str) -> ModelSpec:
    """The model "predify:NAME", where NAME is a feedforward model; the option `config` names a file."""
    from pcbench.models.loading import find_model

    base, options = find_model(rest)
    if options:
        raise UserError(f"{rest}: options of the backbone are not passed on")
    if base.family == "predictive":
        raise UserError(f"{base.name} is predictive already; predify a feedforward network")
    name = f"predify:{base.name}"

    def configure(backbone: nn.Module, preprocessing: Preprocessing, given: Mapping[str, object]) -> PredictiveConfig:
        file = given.get("config")
        if file is not None:
            return read_config(str(file))
        return automatic_config(backbone, (len(preprocessing.mean), *preprocessing.size), name=name)

    return predictive_spec(
        name,
        f"{base.description}, made predictive",
        base,
        configure,
        tuple(predictive_weights(entry, _feedback(name, entry.tag)) for entry in base.weights),
        TIMESTEPS,
        {"config": "TOML file (pcbench predify writes one); without, PCoders go where the spatial size changes"},
    )


MODEL_SOURCES.register("predify", predify_spec)

_register(
    "pefficientnet-lite0",
    "EfficientNet-Lite0 with predictive-coding dynamics, 8 PCoders",
    EFFICIENTNET_LITE0,
    shipped={
        "imagenet1k": InstalledFile(
            package="pcbench",
            file="models/weights/pefficientnet-lite0-imagenet1k.safetensors",
            sha256="41f442f7075c5a4466a0c8f3acd31cbc0681bf2c9b1a0517e57e815a1b262a91",
        )
    },
)
_register(
    "pefficientnet-b0",
    "EfficientNet-B0 with predictive-coding dynamics, 8 PCoders, as published",
    EFFICIENTNET_B0,
    get="pcbench weights import pefficientnet-b0 FILES",
    options=_EXPERIMENTS,
)
_register(
    "pvgg16",
    "VGG16 with predictive-coding dynamics, 5 PCoders, as published",
    VGG16,
    get="pcbench weights import pvgg16 FILES",
    options=_EXPERIMENTS,
)
_register("presnet18", "ResNet-18 with predictive-coding dynamics, 4 PCoders", RESNET18)
_register("presnet50", "ResNet-50 with predictive-coding dynamics, 4 PCoders", RESNET50)
