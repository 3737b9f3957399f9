"""CORnet-S, for ImageNet's images."""

from collections.abc import Mapping

from pcbench.models.base import IMAGENET_224, TemporalClassifier
from pcbench.models.cornet_s import REPEATS, CORnetS
from pcbench.models.options import Json
from pcbench.models.own import own_network, trained_here
from pcbench.models.spec import MODELS, ModelSpec, Weights


def _build(spec: ModelSpec, weights: Weights, options: Mapping[str, Json], seed: int) -> TemporalClassifier:
    model, record = own_network(
        lambda: CORnetS(weights.num_classes, weights.preprocessing),
        spec.name,
        {"repeats": list(REPEATS)},
        weights,
        seed,
    )
    model.provenance = record
    return model


MODELS.register(
    "cornet-s",
    ModelSpec(
        name="cornet-s",
        family="recurrent",
        description="CORnet-S, whose areas repeat themselves 2, 4 and 2 times, 224 x 224 images",
        build=_build,
        weights=(
            Weights(
                "imagenet1k",
                IMAGENET_224,
                1000,
                "imagenet",
                {"network": trained_here("cornet-s", "imagenet1k", "convrnn", "IMAGES_OF_224x224")},
                description="trained here",
            ),
        ),
        timesteps=max(REPEATS) - 1,
    ),
)
