"""A predictive network of two PCoders over 16 x 16 images, and a few images: trainings in milliseconds."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from pcbench.data.images import Image8, ImageSet
from pcbench.models.base import Preprocessing
from pcbench.models.own import initialised
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.predify import predify
from pcbench.randomness import numpy_generator

CONFIG = {
    "name": "tiny",
    "input_size": [3, 16, 16],
    "pcoders": [
        {"module": "0", "hyperparameters": {"feedforward": 0.5, "feedback": 0.2, "pc": 0.01}},
        {"module": "2", "hyperparameters": {"feedforward": 0.5, "feedback": 0.0, "pc": 0.01}},
    ],
}


def tiny_model(seed: int = 0, second: str | None = None) -> PredictiveClassifier:
    """Two convolutions, batch norm (whose statistics must not drift) and a linear layer."""

    def make() -> nn.Module:
        layers = [nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, stride=2, padding=1)]
        return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)).eval()

    names = [{**table, "module": f"net.{table['module']}"} for table in CONFIG["pcoders"]]  # type: ignore[attr-defined]
    if second is not None:
        names[1]["predictor"] = second

    def whole() -> PredictiveClassifier:
        backbone = nn.Sequential()
        backbone.add_module("net", make())
        network = predify(backbone, {**CONFIG, "pcoders": names})
        return PredictiveClassifier(network, 5, Preprocessing((16, 16), (0.5,) * 3, (0.25,) * 3), timesteps=2)

    model = initialised(whole, seed)
    model.name, model.weights = "tiny", "random"
    model.provenance = {"configuration": "c0ffee"}
    return model.eval().requires_grad_(False)


class Pictures(ImageSet):
    """Smooth random images of 20 x 20."""

    def __init__(self, count: int = 24, ids: Sequence[str] | None = None) -> None:
        names = list(ids or [f"picture-{n}" for n in range(count)])
        super().__init__("pictures", "five", names, [n % 5 for n in range(len(names))])

    def raw(self, index: int) -> bytes:
        coarse = numpy_generator("picture", self.ids[index]).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        return coarse.repeat(4, 0).repeat(4, 1).tobytes()

    def decode(self, index: int, raw: bytes) -> Image8:
        return np.frombuffer(raw, np.uint8).reshape(20, 20, 3)

    def subset(self, indices: Sequence[int]) -> "Pictures":
        return Pictures(ids=[self.ids[index] for index in indices])
