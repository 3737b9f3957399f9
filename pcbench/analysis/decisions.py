"""When a network decides: the timestep from which its answer stands, or at which it is sure enough."""

import numpy as np
import numpy.typing as npt

Steps = npt.NDArray[np.int64]


def settled(predictions: npt.ArrayLike) -> Steps:
    """The first timestep from which the answer stays what it is at the last.

    Args:
        predictions: (..., T + 1, I): timesteps, then images last; any type that can be compared.

    Returns:
        (..., I), in 0..T.

    >>> settled([[1, 5], [2, 3], [2, 5]]).tolist()
    [1, 2]
    """
    answers = np.asarray(predictions)
    differs = answers != answers[..., -1:, :]
    steps = answers.shape[-2]
    last_change = steps - 1 - np.argmax(differs[..., ::-1, :], axis=-2)
    return np.asarray(np.where(differs.any(axis=-2), last_change + 1, 0), dtype=np.int64)


def crossed(values: npt.ArrayLike, threshold: float, *, downwards: bool = False) -> Steps:
    """The first timestep at which a network is sure enough.

    Args:
        values: (..., T + 1, I): confidence, or (with `downwards`) entropy, of each timestep and image.
        threshold: reached from below, or from above with `downwards`.
        downwards: whether small values are sure ones.

    Returns:
        (..., I), in 0..T + 1: T + 1 is "later than ever looked", for images that never get there.

    >>> crossed([[0.2, 0.9], [0.95, 0.1]], 0.9).tolist(), crossed([[2.0], [1.5]], 1.0, downwards=True).tolist()
    ([1, 0], [2])
    """
    table = np.asarray(values, dtype=float)
    if np.isnan(table).any():
        raise ValueError("a threshold cannot be asked of values that are no numbers (NaN)")
    sure = table <= threshold if downwards else table >= threshold
    return np.asarray(np.where(sure.any(axis=-2), sure.argmax(axis=-2), table.shape[-2]), dtype=np.int64)


def entropy(probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Entropy in nats of probabilities along the last axis, in [0, log of their number].

    >>> print(f"{entropy([0.5, 0.5]):.4f}")
    0.6931
    """
    p = np.asarray(probabilities, dtype=float)
    if not ((p >= 0) & (p <= 1 + 1e-6)).all():
        raise ValueError("probabilities lie between 0 and 1")
    return np.asarray(-np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0), axis=-1))
