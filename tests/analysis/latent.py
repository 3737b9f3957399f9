"""Outcomes as they occur: an image's difficulty is shared by conditions and by systems, and the rates are known."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

Outcomes = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shared:
    """Shares of the variance of the latent number that decides an outcome; the rest is each outcome's own."""

    image: float = 0.6  # of all conditions, systems and seeds
    condition: float = 0.15  # of both systems in one condition
    system: float = 0.1  # of one system in all conditions


def accuracies(around: float, conditions: int, spread: float = 0.8) -> npt.NDArray[np.float64]:
    """Accuracies of conditions from easy to hard."""
    return ndtr(ndtri(around) + (np.linspace(-spread, spread, conditions) if conditions > 1 else np.zeros(1)))


def draw(
    generator: np.random.Generator,
    rates: list[npt.NDArray[np.float64]],
    replicates: int,
    images: int,
    shared: Shared | None = None,
    seed_sd: float = 0.0,
) -> list[Outcomes]:
    """(conditions, replicates, images) for each system, whose accuracies in the conditions are its rates.

    `seed_sd`: how much the trainings of one recipe differ; then each entry of `rates` is a training of its own, and the
    rate is the mean over all trainings.
    """
    s = shared or Shared()

    def normal(*shape: int) -> npt.NDArray[np.float32]:
        return generator.standard_normal(shape, dtype=np.float32)

    own = 1 - s.image - s.condition - s.system
    common = np.float32(s.image**0.5) * normal(1, replicates, images)
    common = common + np.float32(s.condition**0.5) * normal(len(rates[0]), replicates, images)
    result = []
    for rate in rates:
        latent = common + np.float32(s.system**0.5) * normal(1, replicates, images)
        latent += np.float32(own**0.5) * normal(len(rate), replicates, images)
        threshold = (ndtri(rate) * (1 + seed_sd**2) ** 0.5)[:, None, None] + seed_sd * normal(1, replicates, 1)
        result.append(latent < threshold)
    return result


def coverage(low: npt.ArrayLike, high: npt.ArrayLike, truth: float) -> float:
    """Percent of intervals that hold the truth."""
    return 100 * float(((np.asarray(low) <= truth + 1e-9) & (truth - 1e-9 <= np.asarray(high))).mean())
