"""Networks with predictive-coding dynamics: the published two, their relatives, and "predify:NAME" for any other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from pcbench.errors import UserError
from pcbench.models.base import Preprocessing
from pcbench.models.checkpoints import configuration_hash
from pcbench.models.options import Json, Option, by_content, existing_file
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


def _feedback(model: str, tag: str, config: str = "", configuration: str = "") -> WeightSource:
    """The file for a model and tag, and for a configuration of the user's own (file, hash)."""
    named = f"{model}?config={config}" if config else model
    train = f"pcbench train feedback --model '{named}' --weights {tag} --data IMAGES --install"
    return weights_file(feedback_file_name(model, tag, configuration), train)


def _with_configuration(
    name: str,
    description: str,
    base: ModelSpec,
    values: Mapping[str, object] | None = None,
    tags: Sequence[Tag] = (),
    counterpart: str | None = None,
) -> ModelSpec:
    """Register a network with the shipped configuration of its name.

    Args:
        name: see ModelSpec.
        description: see ModelSpec.
        base: the feedforward model.
        values: hyperparameters other than the configuration's.
        tags: further tags of the first weights, with other hyperparameters. Tuned ones, where they are shipped, are
            one by themselves: "tuned".
        counterpart: see ModelSpec.
    """
    config = read_config(shipped_configuration(name))
    weights = [predictive_weights(entry, _feedback(name, entry.tag), values) for entry in base.weights]
    weights += [with_values(weights[0], *tag) for tag in tags]
    if (found := tuned_values(f"{name}-tuned")) is not None:
        weights.append(with_values(weights[0], "tuned", TUNED, found.options, found.timesteps))
    spec = predictive_spec(name, description, base, lambda *_: config, tuple(weights), TIMESTEPS)
    return replace(spec, counterpart=counterpart)


_CONFIG = "TOML file (pcbench predify writes one); without, PCoders go where the spatial size changes"


def predify_spec(rest: str, options: Mapping[str, object]) -> ModelSpec:
    """The model "predify:NAME", where NAME is a feedforward model; the option `config` names a file.

    A configuration of the user's own has files of feedback weights of its own.
    """
    from pcbench.models.resolve import find

    named = find(rest)
    if named.options:
        raise UserError(f"{rest}: options of the backbone are not passed on")
    base = named.spec
    if base.family == "predictive":
        raise UserError(f"{base.name} is predictive already; predify a feedforward network")
    name = f"predify:{base.name}"

    file, own = options.get("config"), ""
    if file is not None:
        own = configuration_hash(read_config(str(file)).structure())

    def configure(backbone: nn.Module, preprocessing: Preprocessing, given: Mapping[str, Json]) -> PredictiveConfig:
        if (file := given.get("config")) is not None:
            return read_config(str(file))
        return automatic_config(backbone, (len(preprocessing.mean), *preprocessing.size), name=name)

    return predictive_spec(
        name,
        f"{base.description}, made predictive",
        base,
        configure,
        tuple(predictive_weights(entry, _feedback(name, entry.tag, str(file or ""), own)) for entry in base.weights),
        TIMESTEPS,
        {"config": Option(_CONFIG, existing_file, by_content)},
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
        values=PUBLISHED,
    ),
    _with_configuration(
        "pvgg16",
        "VGG16 with predictive-coding dynamics, 5 PCoders, as published",
        VGG16,
        values=PUBLISHED,
        counterpart=PVGG16_CIFAR.name,
    ),
    _with_configuration("presnet18", "ResNet-18 with predictive-coding dynamics, 4 PCoders", RESNET18),
    _with_configuration(
        "presnet18-cifar",
        "resnet18-cifar with predictive-coding dynamics, 4 PCoders",
        RESNET18_CIFAR,
    ),
    _with_configuration("presnet50", "ResNet-50 with predictive-coding dynamics, 4 PCoders", RESNET50),
)
for _spec in _MODELS:
    MODELS.register(_spec.name, _spec)
