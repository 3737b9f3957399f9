"""A network with dynamics as the ordinary classifier that an attack sees: its answer at a timestep, or over all."""

import math

import torch
from torch import Tensor, nn

from pcbench.models.base import TemporalClassifier

Readout = int | str  # a timestep, "mean" or "worst"


class Victim(nn.Module):
    """Images in [0, 1] -> logits (B, classes) of one readout of the whole unrolled computation.

    Readouts of the answers at t = 0..T:
    - t: the answer at that timestep; the network is unrolled no further.
    - "mean": the logarithm of the mean over timesteps of the class probabilities; its argmax is the cumulative
      prediction of the records.
    - "worst": for each image, the answer at the timestep at which the label (the target) has the smallest margin over
      the other classes, so that it is wrong when any timestep is.

    With `samples` > 1 every image is answered that many times and the probabilities are averaged: the expectation
    over the random initial states of a network that draws them (expectation over transformation, Athalye et al.,
    2018).

    Args:
        model: in eval mode. The wrapper takes its mode from it and does not set it.
        readout: see above.
        timesteps: T; what "mean" and "worst" run over.
        labels: (B,) labels of the images that will be asked about; one label serves any number of images.
        samples: answers to average.
    """

    def __init__(
        self, model: TemporalClassifier, readout: Readout, timesteps: int, labels: Tensor, samples: int = 1
    ) -> None:
        super().__init__()
        self.model = model
        self.training = model.training  # not .train(): that would set the model's modules too
        self.readout = readout
        self.timesteps = timesteps
        self.labels = labels
        self.samples = samples

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes), a tensor of its own: some attacks write into it."""
        if images.requires_grad:  # libraries take gradients apart as if they were laid out like (B, C, H, W) images
            images = images.view_as(images)
            images.register_hook(_contiguous)  # type: ignore[no-untyped-call]  # torch leaves it without types
        asked = images.repeat_interleave(self.samples, dim=0) if self.samples > 1 else images
        if isinstance(self.readout, int):
            answer = self.model.answer(asked, self.readout)
        else:
            logits = self.model(asked, timesteps=self.timesteps)
            answer = _mean(logits) if self.readout == "mean" else self._worst(logits, len(images))
        if self.samples == 1:
            return answer.clone()
        each = answer.log_softmax(-1).view(len(images), self.samples, -1)
        return each.logsumexp(1) - math.log(self.samples)

    def _worst(self, logits: Tensor, count: int) -> Tensor:
        labels = self.labels if len(self.labels) == count else self.labels.expand(count)
        labels = labels.repeat_interleave(self.samples)
        of_label = logits.gather(-1, labels.expand(len(logits), -1).unsqueeze(-1)).squeeze(-1)
        others = logits.scatter(-1, labels.expand(len(logits), -1).unsqueeze(-1), -math.inf).amax(-1)
        weakest = (of_label - others).argmin(0)
        return logits[weakest, torch.arange(len(labels), device=logits.device)]


def _contiguous(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.contiguous()


def _mean(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))
