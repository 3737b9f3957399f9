"""Additive noise, drawn for each image from its own stream."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from pcbench.keys import Condition
from pcbench.perturbations.base import KINDS, Context, Perturbation, Perturbed
from pcbench.randomness import normal_like
from pcbench.tables import Table


class NoiseTable(Table):
    """`kind = "noise"`.

    Attributes:
        name: of the perturbation in the results.
        sigma: standard deviations, one condition each.
        units: "normalised": added after the model's normalisation, as in the paper, so nothing is clipped and sigma is
            in units of the data's standard deviation; "pixel": added to pixels in [0, 1], and clipped to [0, 1].
    """

    name: str = "gaussian-noise"
    sigma: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]
    units: Literal["normalised", "pixel"] = "normalised"


class Noise(Perturbation):
    """Gaussian noise of one standard deviation.

    The standard normal values of an image depend on (seed, image id, name) alone: all sigmas and all models of one
    input size see the same pattern, scaled, so that their results are paired.
    """

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition)
        self.normalised = condition.params["units"] == "normalised"
        self.shared = not self.normalised

    @classmethod
    def conditions(cls, suite: str, table: Mapping[str, object]) -> list[Condition]:
        """One condition for each sigma."""
        read = NoiseTable.read(suite, table)
        return [Condition("noise", read.name, "noise", sigma, {"units": read.units}) for sigma in read.sigma]

    def on_float(self, images: Tensor, context: Context) -> Perturbed:
        """Images + sigma * noise. In normalised units the noise is scaled by the model's per-channel deviation.

        (x + sigma std n - mean) / std = (x - mean) / std + sigma n, so adding it here is adding it after the model's
        normalisation.
        """
        sigma = self.condition.severity
        if sigma == 0:
            return Perturbed(images)
        noise = normal_like(images, context.seed, context.ids, self.condition.perturbation)
        if self.normalised:
            return Perturbed(images + sigma * context.model.std * noise)
        return Perturbed((images + sigma * noise).clamp(0, 1))


KINDS.register("noise", Noise)
