"""Do two observers err on the same images? Error consistency: Cohen's kappa of their being right.

Two observers of high accuracy agree on most images by chance. Kappa is what they agree on beyond that, as a share of
what there is beyond that: 1 where they err on exactly the same images, 0 where they err independently.

Source: Geirhos, Meding and Wichmann 2020 (arXiv 2006.16736), section 2.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from pcbench.analysis.images import Floats
from pcbench.intervals import LEVEL

Outcomes = npt.NDArray[np.bool_]

# Half an imaginary image in each cell of the table right/wrong x right/wrong gives the interval (not the value) width
# where the two agree on every image (Agresti and Coull's device; its coverage is simulated in the tests).
_IMAGINED = np.array([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=bool)
_EACH = 0.5


@dataclass(frozen=True)
class Consistency:
    """Of each timestep of one observer with each of another; all arrays (T + 1, T' + 1), means over conditions.

    Attributes:
        kappa: error consistency, in [-1, 1]; NaN where in some condition both are always right or both always wrong.
        low, high: its interval over images.
        least, most: what kappa could at least and at most be, given the accuracies.
        observed: share of images on which both are right or both are wrong.
        expected: what that share would be if they erred independently.
    """

    kappa: Floats
    low: Floats
    high: Floats
    least: Floats
    most: Floats
    observed: Floats
    expected: Floats


def error_consistency(first: npt.ArrayLike, second: npt.ArrayLike, level: float = LEVEL) -> Consistency:
    """Error consistency of two observers on the same images, at every pair of timesteps.

    Each condition has its own kappa, for differences of difficulty between conditions are no agreement; they are
    averaged, and the interval takes each image's influence on all of them together.

    Args:
        first: (C, T + 1, I) outcomes, bool; T + 1 is 1 for an observer without timesteps.
        second: (C, T' + 1, I) on the same conditions and images.
        level: confidence.

    Returns:
        Matrices (T + 1, T' + 1).

    Raises:
        ValueError: outcomes that are no truth values, or not on the same conditions and images.

    >>> one = np.array([[[1, 1, 1, 1, 0, 0, 0, 0]]], bool)
    >>> other = np.array([[[1, 1, 1, 0, 0, 0, 0, 1]]], bool)
    >>> found = error_consistency(one, other)
    >>> print(f"{found.kappa[0, 0]:.2f}, possible from {found.least[0, 0]:.2f} to {found.most[0, 0]:.2f}")
    0.50, possible from -1.00 to 1.00
    """
    ours, theirs = np.asarray(first), np.asarray(second)
    if ours.dtype != bool or theirs.dtype != bool:
        raise ValueError(f"outcomes are truth values (bool), not {ours.dtype} and {theirs.dtype}")
    if ours.ndim != 3 or theirs.ndim != 3 or ours.shape[::2] != theirs.shape[::2] or 0 in ours.shape + theirs.shape:
        raise ValueError(
            "outcomes are conditions x timesteps x images, of the same conditions and images, "
            f"not {ours.shape} and {theirs.shape}"
        )
    shape = ours.shape[1], theirs.shape[1]
    found = {name: np.zeros(shape) for name in ("kappa", "least", "most", "observed", "expected")}
    centre, spread = np.zeros(shape), np.zeros(shape)
    n = ours.shape[2]
    reach = stats.t.isf((1 - level) / 2, n)
    for t in range(shape[0]):
        influence = np.zeros((shape[1], n + 4))
        for a, b in zip(ours[:, t], theirs, strict=True):
            rates = a.mean(), b.mean(axis=-1)
            agree = (a == b).mean(axis=-1)
            chance = _chance(*rates)
            for name, value in (
                ("observed", agree),
                ("expected", chance),
                ("kappa", _kappa(agree, chance)),
                ("least", _kappa(np.abs(rates[0] + rates[1] - 1), chance)),
                ("most", _kappa(1 - np.abs(rates[0] - rates[1]), chance)),
            ):
                found[name][t] += value / len(ours)
            kappa, each = _influence(np.concatenate([a, _IMAGINED[0]]), np.concatenate([b, _tiled(b)], axis=-1))
            centre[t] += kappa / len(ours)
            influence += each / len(ours)
        squares = (influence[:, :n] ** 2).sum(axis=-1) + _EACH * (influence[:, n:] ** 2).sum(axis=-1)
        spread[t] = np.sqrt(squares) / (n + 4 * _EACH)
    low = np.clip(np.minimum(centre - reach * spread, found["kappa"]), -1, 1)
    high = np.clip(np.maximum(centre + reach * spread, found["kappa"]), -1, 1)
    return Consistency(low=low, high=high, **found)


def _tiled(b: Outcomes) -> Outcomes:
    return np.broadcast_to(_IMAGINED[1], (len(b), 4))


def _chance(a: Floats, b: Floats) -> Floats:
    """Agreement of independent observers with these accuracies."""
    return np.asarray(a * b + (1 - a) * (1 - b))


def _kappa(agree: Floats, chance: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(chance < 1, (agree - chance) / (1 - chance), np.nan))


def _influence(a: Outcomes, b: Outcomes) -> tuple[Floats, Floats]:
    """Kappa with the imaginary images, (T' + 1,), and each image's influence on it, (T' + 1, I + 4) (delta method)."""
    weight = np.ones(a.shape[-1])
    weight[-4:] = _EACH
    weight /= weight.sum()
    p, q = np.asarray(a @ weight), b @ weight
    same = a == b
    agree, chance = same @ weight, _chance(p, q)
    rest = 1 - chance
    of_chance = (2 * q - 1)[:, None] * (a - p) + (2 * p - 1) * (b - q[:, None])
    each = (same - agree[:, None]) / rest[:, None] - ((1 - agree) / rest**2)[:, None] * of_chance
    return (agree - chance) / rest, each
