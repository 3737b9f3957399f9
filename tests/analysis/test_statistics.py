import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pcbench.analysis import statistics


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(better: int, worse: int) -> None:
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert statistics.mcnemar(better, worse) == pytest.approx(expected)


def test_holm_steps_down_and_keeps_the_order() -> None:
    corrected = statistics.holm([[0.01, 0.2], [0.04, 0.03]])
    np.testing.assert_allclose(corrected, [[0.04, 0.2], [0.09, 0.09]])
    assert statistics.holm([]).size == 0


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
def test_sign_flip_is_the_count_over_all_signs(differences: list[int]) -> None:
    total = abs(sum(differences))
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in itertools.product([-1, 1], repeat=len(differences))
    ]
    expected = sum(abs(s) >= total for s in sums) / len(sums)
    assert float(statistics.sign_flip(differences)) == pytest.approx(expected, abs=1e-9)


def test_sign_flip_of_one_condition_is_mcnemar() -> None:
    assert float(statistics.sign_flip([1] * 30 + [-1] * 12)) == pytest.approx(float(statistics.mcnemar(30, 12)))


def test_sign_flip_refuses_means() -> None:
    with pytest.raises(ValueError, match="integer"):
        statistics.sign_flip([0.5, 1.0])


def test_bootstrap_resamples_all_columns_together() -> None:
    values = np.random.default_rng(0).integers(0, 2, 50)
    means = statistics.bootstrap(np.stack([values, values, 1 - values], axis=1), 200)
    assert (means[:, 0] == means[:, 1]).all()
    np.testing.assert_allclose(means[:, 0] + means[:, 2], 1, atol=1e-6)


def test_bootstrap_has_the_standard_error_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    assert statistics.bootstrap(values, 4000).std() == pytest.approx(values.std() / 20, rel=0.05)


def test_paired_interval_agrees_with_resampled_images() -> None:
    differences = np.array([1] * 30 + [-1] * 10 + [0] * 160)
    slow = statistics.interval(statistics.bootstrap(differences[:, None], 10_000)[:, 0])
    fast = statistics.paired_interval(30, 10, 200, replicates=10_000)
    np.testing.assert_allclose(fast, slow, atol=0.011)


def test_no_discordant_image_is_no_difference() -> None:
    assert statistics.mcnemar(0, 0) == 1
    assert float(statistics.sign_flip([0, 0])) == 1
    assert statistics.paired_interval(0, 0, 10) == (0, 0)
