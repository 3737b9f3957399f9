"""What an image contributes to a mean over conditions, and how many images such a mean is worth.

The same images recur in every condition, so the outcomes of one image are no independent trials: the image is the unit.
An image contributes its (weighted) mean over conditions, a number in [0, 1]. The variance of such numbers is at most
that of outcomes 0 and 1 with the same mean; the ratio is the design effect of survey sampling (Kish 1965, Survey
Sampling, section 8.2), and n images are worth n / (design effect) independent trials. Score intervals, which are right
near 0 and 1 where those from a variance alone are not, are then taken of that effective number.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# An estimated design effect is pulled towards 1, its largest value, by this many imaginary images. Where the data say
# nothing about it (all images alike) the intervals are those of independent images, and never of zero width. Chosen by
# simulation (tests/analysis/test_coverage.py): with none, intervals of 20 images are too narrow; with one, too wide.
IMAGINARY = 0.15


def of_conditions(correct: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """Each image's mean over conditions.

    Args:
        correct: (C, ..., I): conditions first, images last; outcomes (bool), or shares in [0, 1].
        weights: (C,) what each condition counts, at least 0, in any unit; equal where None.

    Returns:
        (..., I), in [0, 1].

    Raises:
        ValueError: no conditions, no images, or weights of another number or negative or all 0.
    """
    table = np.asarray(correct)
    if table.ndim < 2 or 0 in (table.shape[0], table.shape[-1]):
        raise ValueError(f"outcomes of at least one condition and one image are needed, not an array {table.shape}")
    if len(table) == 1:
        return np.asarray(table[0], dtype=np.float64)
    if weights is None:
        return np.asarray(table.sum(axis=0, dtype=np.float64) / len(table))
    total = np.zeros(table.shape[1:])
    for row, weight in zip(table, normalised(weights, len(table)), strict=True):
        total += weight * row
    return np.clip(total, 0.0, 1.0)


def normalised(weights: npt.ArrayLike | None, n: int) -> Floats:
    """Weights of n conditions that add up to 1; equal where None.

    Raises:
        ValueError: weights of another number, negative, or all 0.
    """
    if weights is None:
        return np.full(n, 1 / n)
    given = np.asarray(weights, dtype=float)
    if given.shape != (n,) or not (given >= 0).all() or not 0 < given.sum() < np.inf:
        raise ValueError(f"the weights of {n} conditions are {n} numbers >= 0 that are not all 0")
    return np.asarray(given / given.sum())


def effective_number(variance: npt.ArrayLike, full: npt.ArrayLike, n: int, *, at_least_full: bool = True) -> Floats:
    """How many independent images the mean of n images is worth.

    Args:
        variance: of a single image's contribution, such that variance / n is the variance of the mean.
        full: the variance that it would have if each image's outcomes all agreed.
        n: number of images.
        at_least_full: whether more than `full` is noise of the estimate, as it is where images are all that varies.

    Returns:
        n / (design effect), of the shape of the arguments.
    """
    effect = (n * np.asarray(variance, dtype=float) + IMAGINARY) / (n * np.asarray(full, dtype=float) + IMAGINARY)
    return np.asarray(n / (np.minimum(effect, 1.0) if at_least_full else effect))
