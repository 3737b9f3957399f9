"""A percentile bootstrap over images, for figures of quantities that are neither accuracies nor ratios of errors.

Its intervals are too narrow for few images: those of accuracies are in `pcbench.analysis.means`, of differences in
`pcbench.analysis.paired`, of ratios of errors in `pcbench.analysis.ratios`.
"""

import numpy as np
import numpy.typing as npt

from pcbench.intervals import LEVEL

Floats = npt.NDArray[np.float64]

REPLICATES = 10_000
_CHUNK = 1 << 24  # elements of a block of resampling counts: 64 MB


def bootstrap(values: npt.ArrayLike, replicates: int = REPLICATES, seed: int = 0) -> npt.NDArray[np.float32]:
    """Means over images, for resamples of the images: the same resample for every column.

    Args:
        values: (I, M): for each image, M quantities (accuracies of timesteps, perturbations, models ...). What is put
            side by side in one call is resampled together, so that differences and ratios of columns are paired.
        replicates: R, the number of resamples.
        seed: of the resampling. Equal seeds and I give equal resamples.

    Returns:
        (R, M).
    """
    table = np.ascontiguousarray(values, dtype=np.float32)
    n = len(table)
    generator = np.random.default_rng(seed)
    means = np.empty((replicates, table.shape[1]), dtype=np.float32)
    step = max(1, _CHUNK // n)
    for start in range(0, replicates, step):
        rows = min(step, replicates - start)
        drawn = generator.integers(0, n, size=(rows, n), dtype=np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n).astype(np.float32).reshape(rows, n)
        means[start : start + rows] = counts @ table / n
    return means


def interval(replicates: npt.NDArray[np.floating], level: float = LEVEL) -> tuple[Floats, Floats]:
    """The percentile interval of bootstrap replicates (R, ...): (low, high)."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(low, dtype=float), np.asarray(high, dtype=float)
