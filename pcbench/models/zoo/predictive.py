"""Networks with predictive-coding dynamics: the published two, their relatives, and "predify:NAME" for any other."""

from collections.abc import Mapping, Sequence

from torch import nn

from pcbench.errors import UserError
from pcbench.models.base import Preprocessing
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
from pcbench.models.predictive.placement import automatic_config
from pcbench.models.shipped import tuned_values, weights_file
from pcbench.models.spec import MODEL_SOURCES, MODELS, ModelSpec, WeightSource
from pcbench.models.zoo.cifar import PVGG16_CIFAR
from pcbench.models.zoo.efficientnet_lite import EFFICIENTNET_LITE0, EFFICIENTNET_LITE1, EFFICIENTNET_LITE2
from pcbench.models.zoo.libraries import EFFICIENTNET_B0, RESNET18, RESNET50, VGG16
from pcbench.models.zoo.resnet_cifar import RESNET18_CIFAR

TIMESTEPS = 4

Tag = tuple[str, str, Mapping[str, object]]  # name, description, hyperparameters


def _feedback(model: str, tag: str, get: str | None = None) -> WeightSource:
    train = f"pcbench train feedback --model '{model}' --data IMAGENET --output DIR --install"
    return weights_file(feedback_file_name(model, tag), get or train)


def _with_configuration(
    name: str,
    description: str,
    base: ModelSpec,
    get: str | None = None,
    values: Mapping[str, object] | None = None,
    tags: Sequence[Tag] = (),
) -> ModelSpec:
    """Register a network with the shipped configuration of its name.

    Args:
        name: see ModelSpec.
        description: see ModelSpec.
        base: the feedforward model.
        get: command that puts feedback weights into the user's folder; None for training them.
        values: hyperparameters other than the configuration's.
        tags: further tags of the first weights, with other hyperparameters. Tuned ones, where they are shipped, are
            one by themselves: "tuned".
    """
    config = read_config(shipped_configuration(name))
    weights = [predictive_weights(entry, _feedback(name, entry.tag, get), values) for entry in base.own_weights()]
    weights += [with_values(weights[0], *tag) for tag in tags]
    if (found := tuned_values(f"{name}-tuned")) is not None:
        weights.append(with_values(weights[0], "tuned", TUNED, found.options, found.timesteps))
    return predictive_spec(name, description, base, lambda *_: config, tuple(weights), TIMESTEPS)


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
        tuple(predictive_weights(entry, _feedback(name, entry.tag)) for entry in base.own_weights()),
        TIMESTEPS,
        {"config": "TOML file (pcbench predify writes one); without, PCoders go where the spatial size changes"},
    )


MODEL_SOURCES.register("predify", predify_spec)

_MODELS = (
    _with_configuration(
        "pefficientnet-lite0",
        "EfficientNet-Lite0 with predictive-coding dynamics, 8 PCoders",
        EFFICIENTNET_LITE0,
        tags=[("published", "hyperparameters of the published experiments", PUBLISHED)],
    ),
    _with_configuration(
        "pefficientnet-lite1", "EfficientNet-Lite1 with predictive-coding dynamics, 8 PCoders", EFFICIENTNET_LITE1
    ),
    _with_configuration(
        "pefficientnet-lite2", "EfficientNet-Lite2 with predictive-coding dynamics, 8 PCoders", EFFICIENTNET_LITE2
    ),
    _with_configuration(
        "pefficientnet-b0",
        "EfficientNet-B0 with predictive-coding dynamics, 8 PCoders, as published",
        EFFICIENTNET_B0,
        get="pcbench weights import pefficientnet-b0 FILES",
        values=PUBLISHED,
    ),
    _with_configuration(
        "pvgg16",
        "VGG16 with predictive-coding dynamics, 5 PCoders, as published",
        VGG16,
        get="pcbench weights import pvgg16 FILES",
        values=PUBLISHED,
    ).with_weights_of(PVGG16_CIFAR),
    _with_configuration("presnet18", "ResNet-18 with predictive-coding dynamics, 4 PCoders", RESNET18),
    _with_configuration(
        "presnet18-cifar",
        "resnet18-cifar with predictive-coding dynamics, 4 PCoders",
        RESNET18_CIFAR,
        get="pcbench train feedback --model presnet18-cifar --data CIFAR10 --output DIR --install",
    ),
    _with_configuration("presnet50", "ResNet-50 with predictive-coding dynamics, 4 PCoders", RESNET50),
)
for _spec in _MODELS:
    MODELS.register(_spec.name, _spec)
