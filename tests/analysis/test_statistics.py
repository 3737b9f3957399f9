import numpy as np
import pytest

from pcbench.analysis import statistics


def test_bootstrap_resamples_all_columns_together() -> None:
    values = np.random.default_rng(0).integers(0, 2, 50)
    means = statistics.bootstrap(np.stack([values, values, 1 - values], axis=1), 200)
    assert (means[:, 0] == means[:, 1]).all()
    np.testing.assert_allclose(means[:, 0] + means[:, 2], 1, atol=1e-6)


def test_bootstrap_has_the_standard_error_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    assert statistics.bootstrap(values, 4000).std() == pytest.approx(values.std() / 20, rel=0.05)
