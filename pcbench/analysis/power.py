"""How many images would show a difference."""

import math
from statistics import NormalDist

from pcbench.intervals import LEVEL


def images_needed(
    difference: float, discordance: float, *, power: float = 0.8, level: float = LEVEL, design_effect: float = 1.0
) -> int:
    """The number of images at which a paired difference of accuracies would be shown.

    Source: Connor 1987 (Biometrics 43, 207-211), the score form of McNemar's test.

    Args:
        difference: to be shown, a fraction of images, not 0; its sign does not matter.
        discordance: share of images on which one system is right and the other wrong, at least |difference|.
        power: probability of showing it, in (0, 1).
        level: of confidence; over a family, its `marginal_level`.
        design_effect: n / (effective number of images) of a mean over conditions; 1 for one condition.

    Returns:
        The number of images, rounded up.

    Raises:
        ValueError: no difference, or impossible shares.

    >>> images_needed(0.02, 0.1)
    1960
    """
    delta = abs(difference)
    if not 0 < delta <= discordance <= 1:
        raise ValueError(
            f"a difference of {difference:g} takes a discordance between its size and 1, not {discordance:g}; and no "
            "number of images shows a difference of 0"
        )
    if not (0 < power < 1 and 0 < level < 1 and 0 < design_effect < math.inf):
        raise ValueError("power and level lie between 0 and 1, and a design effect is positive")
    normal = NormalDist()
    reach = normal.inv_cdf((1 + level) / 2) * math.sqrt(discordance)
    reach += normal.inv_cdf(power) * math.sqrt(discordance - delta**2)
    return max(1, math.ceil(design_effect * (max(reach, 0.0) / delta) ** 2))


def smallest_difference(
    images: int, discordance: float, *, power: float = 0.8, level: float = LEVEL, design_effect: float = 1.0
) -> float | None:
    """The smallest difference that so many images would show; None where not even the whole discordance would be.

    Args:
        images: number of images.
        discordance: as of `images_needed`.
        power: as of `images_needed`.
        level: as of `images_needed`.
        design_effect: as of `images_needed`.

    >>> print(f"{smallest_difference(1960, 0.1):.4f}")
    0.0200
    """
    options = {"power": power, "level": level, "design_effect": design_effect}
    if images < images_needed(discordance, discordance, **options):
        return None
    low, high = 0.0, discordance
    for _ in range(60):
        middle = (low + high) / 2
        if middle == 0 or images_needed(middle, discordance, **options) > images:
            low = middle
        else:
            high = middle
    return high
