"""Several trainings of one recipe as one system: images and training seeds as crossed sources of variation.

A recipe's accuracy is the mean over all images and all seeds that might have been drawn. Its standard error has a part
from images, a part from seeds, and what is left of each outcome enters both; the variance of the mean is (mean square
of images + mean square of seeds - residual mean square) / (seeds x images) (Searle, Casella, McCulloch 1992, Variance
Components, chapter 4). The part from seeds is estimated from as few numbers as there are seeds, so its quantiles are
Student's. With three seeds intervals are wide because three seeds say little.
"""

import numpy as np
import numpy.typing as npt

from pcbench.analysis.images import IMAGINARY, Floats, of_conditions
from pcbench.analysis.means import Estimate
from pcbench.analysis.paired import Paired, reach
from pcbench.intervals import LEVEL


def accuracy_of_recipe(correct: npt.ArrayLike, weights: npt.ArrayLike | None = None, level: float = LEVEL) -> Estimate:
    """Mean accuracy of a recipe over conditions; the interval covers images and training seeds.

    Args:
        correct: (S, C, ..., I) outcomes of S >= 2 trainings: seeds first, then conditions, images last.
        weights: (C,) what each condition counts; equal where None.
        level: confidence.

    Returns:
        Fractions, of shape (...). Simulated coverage at 95 %: at least 93 with 3 and 5 seeds.

    Raises:
        ValueError: fewer than two seeds: one training says nothing about the next.
    """
    share = _by_seed(correct, weights)
    if len(share) < 2:
        raise ValueError("the variation between seeds takes at least two trainings of one recipe")
    value = share.mean(axis=(0, -1))
    variance, few = _variance([share], share.mean(axis=0))
    n = share.shape[-1]
    full = value * (1 - value)
    effective = (full + IMAGINARY / n) / (variance + IMAGINARY / n**2)
    z2 = reach((1 - level) / 2, few) ** 2
    centre = (effective * value + z2 / 2) / (effective + z2)
    half = np.sqrt(z2 * (effective * full + z2 / 4)) / (effective + z2)
    return Estimate(value, np.clip(centre - half, 0, value), np.clip(centre + half, value, 1))


def paired_recipes(
    first: npt.ArrayLike, second: npt.ArrayLike, weights: npt.ArrayLike | None = None, called: str = "seeds"
) -> Paired:
    """Differences of two recipes on the same images, each of one or more trainings.

    Args:
        first: (S, C, ..., I) outcomes (bool) of S trainings: seeds first, then conditions, images last.
        second: (S', C, ..., I), of trainings of their own. Of a single training it is that network, not its recipe.
        weights: (C,) what each condition counts; equal where None.
        called: what varies beside images, in words: "seeds" of a recipe, "observers" of a group of people.

    Returns:
        Of shape (...); `covers` says which recipes' seeds its intervals cover.

    Raises:
        ValueError: both of a single training (`pcbench.analysis.paired.paired` compares those).
    """
    ours, theirs = _by_seed(first, weights), _by_seed(second, weights)
    if len(ours) < 2 and len(theirs) < 2:
        raise ValueError("the variation between seeds takes at least two trainings of one recipe")
    each = ours.mean(axis=0) - theirs.mean(axis=0)
    n = each.shape[-1]
    gained, lost = _shares(
        np.asarray(first, dtype=float).mean(axis=0), np.asarray(second, dtype=float).mean(axis=0), weights
    )
    variance, few = _variance([share for share in (ours, theirs) if len(share) > 1], each)
    full = gained + lost - (gained - lost) ** 2
    effective = (full + IMAGINARY / n) / (variance + IMAGINARY / n**2)
    seeds = {"first": len(ours), "second": len(theirs)}
    named = " and ".join(f"{number} {called} of the {which}" for which, number in seeds.items() if number > 1)
    return Paired(gained, lost, n, effective, few, f"images and {named}")


def _by_seed(correct: npt.ArrayLike, weights: npt.ArrayLike | None) -> Floats:
    """(S, ..., I): each image's mean over conditions under each seed."""
    table = np.asarray(correct)
    if table.ndim < 3 or 0 in table.shape:
        raise ValueError(f"outcomes are seeds x conditions x ... x images, none of them 0, not an array {table.shape}")
    return np.stack([of_conditions(each, weights) for each in table])


def _shares(ours: Floats, theirs: Floats, weights: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    """How often a training of the first is right where one of the second is wrong, and the converse."""
    gained = of_conditions(ours * (1 - theirs), weights).mean(axis=-1)
    lost = of_conditions(theirs * (1 - ours), weights).mean(axis=-1)
    return gained, lost


def _variance(recipes: list[Floats], per_image: Floats) -> tuple[Floats, list[tuple[Floats, int]]]:
    """The variance of a mean over images and over the seeds of some recipes.

    Args:
        recipes: (S, ..., I) each.
        per_image: (..., I) the mean (or difference of means) over seeds.

    Returns:
        The variance, and the share and degrees of freedom of each recipe's seeds.
    """
    n = per_image.shape[-1]
    total = np.asarray(per_image.var(axis=-1) / max(n - 1, 1))
    parts = []
    for share in recipes:
        seeds = len(share)
        of_seeds = share.mean(axis=-1).var(axis=0, ddof=1) / seeds
        residual = share - share.mean(axis=0) - share.mean(axis=-1, keepdims=True) + share.mean(axis=(0, -1))[..., None]
        mean_square = (residual**2).sum(axis=(0, -1)) / ((seeds - 1) * max(n - 1, 1))
        # What is left of each outcome is in the images' part already. Seeds that seem to vary less than that do not.
        parts.append((np.maximum(of_seeds - mean_square / (seeds * n), 0), seeds - 1))
        total = total + parts[-1][0]
    whole = np.where(total > 0, total, 1.0)
    return total, [(part / whole, df) for part, df in parts]
