"""A network that knows the sample images by heart: `template_models:FUNCTION`. Something to attack."""

import torch
from torch import Tensor, nn

from pcbench.data.geometry import Geometry
from pcbench.data.registry import choose_data
from pcbench.models.base import Preprocessing, TemporalClassifier

PREPROCESSING = Preprocessing((32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), resize=32)


class Template(TemporalClassifier):
    """Logits are minus the squared distances of the smoothed image from one image of each class."""

    label_space = "imagenet"

    def __init__(self) -> None:
        super().__init__(1000, PREPROCESSING, 2)
        self.centres = nn.Parameter(torch.full((1000, 48), 10.0))

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        seen = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        distances = torch.cdist(seen, self.centres).square()
        return torch.stack([-distances * (1 + 0.5 * t) for t in range(timesteps + 1)])


def template() -> Template:
    """Filled with the sample images, as the harness prepares them."""
    model = Template()
    samples, _ = choose_data("samples", "imagenet")
    geometry = Geometry.of(PREPROCESSING)
    for position, label in enumerate(samples.labels):
        pixels = geometry.prepare(samples.decode(position, samples.raw(position)))
        image = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0) / 255
        model.centres.data[label] = nn.functional.adaptive_avg_pool2d(model.normalise(image), 4).flatten()
    return model
