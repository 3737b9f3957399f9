"""A predictive network as a classifier of images."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from pcbench.models.base import Preprocessing, TemporalClassifier, last_steps
from pcbench.models.folding import Folding, fold_batch_norms
from pcbench.models.predictive.network import PredictiveNet
from pcbench.models.predictive.state import Gradient


class PredictiveClassifier(TemporalClassifier):
    """A PredictiveNet over images in [0, 1]: its e_0 is the normalised image.

    Args:
        network: over normalised inputs.
        num_classes, preprocessing, timesteps: see TemporalClassifier.
    """

    has_representations: ClassVar[bool] = True
    gradients: tuple[str, ...] = ("exact", "truncated")
    cuts_gradients: ClassVar[bool] = True

    def __init__(self, network: PredictiveNet, num_classes: int, preprocessing: Preprocessing, timesteps: int) -> None:
        super().__init__(num_classes, preprocessing, timesteps)
        self.network = network
        self.training = network.training  # not .train(), which would wake frozen normalisations

    def fold(self) -> list[Folding]:
        """See TemporalClassifier; the modules of PCoders keep their outputs, which predictions are about."""
        cut = {self.network.backbone.get_submodule(path) for path in self.network.paths}
        return fold_batch_norms(self.network.backbone, keep=cut)

    def hold_weights_in(self, dtype: torch.dtype) -> None:
        """See TemporalClassifier. Weights stay as they are: most of the network computes in full, see PredictiveNet."""

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        """See TemporalClassifier."""
        gradient: Gradient = "truncated" if self.gradient == "truncated" else "exact"
        last = last_steps(self.gradient)
        steps = self.network.unroll(x, timesteps, gradient=gradient, checkpointing=self.checkpointing, last=last)
        return torch.stack([step.logits for step in steps])

    def representations(self, images: Tensor, timesteps: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """See TemporalClassifier."""
        self.check(images)
        last = last_steps(self.gradient)
        gradient: Gradient = "truncated" if self.gradient == "truncated" else "exact"
        x = self.normalise(images)
        for step in self.network.unroll(x, timesteps, gradient=gradient, checkpointing=self.checkpointing, last=last):
            yield step.logits, step.representations
