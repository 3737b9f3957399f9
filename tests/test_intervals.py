import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pcbench.intervals import wilson


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, 857-872, table I
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(correct: int, n: int, low: float, high: float) -> None:
    assert wilson(correct, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_one_image_has_an_honest_interval() -> None:
    z2 = 1.959963984540054**2
    assert wilson(0, 1) == (0.0, pytest.approx(z2 / (1 + z2)))
    assert wilson(1, 1) == (pytest.approx(1 / (1 + z2)), 1.0)


@given(st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.9999))
def test_the_interval_contains_the_estimate_to_the_last_bit(counts: tuple[int, int], level: float) -> None:
    correct, n = counts
    low, high = wilson(correct, n, level)
    assert 0 <= low <= correct / n <= high <= 1
    assert 100 * low <= 100 * (correct / n) <= 100 * high
    assert low < high
    assert (low == 0) == (correct == 0)
    assert (high == 1) == (correct == n)


def test_whole_tables_at_once_equal_single_calls() -> None:
    correct, n = np.array([[0, 3], [7, 10]]), np.array([8, 10])
    low, high = wilson(correct, n, 0.9)
    for at in np.ndindex(2, 2):
        assert (low[at], high[at]) == wilson(correct[at], n[at[1]], 0.9)


@pytest.mark.parametrize(("correct", "n"), [(2, 1), (-1, 5), (0, 0), (math.nan, 3)])
def test_impossible_counts_are_refused(correct: float, n: int) -> None:
    with pytest.raises(ValueError, match="0 <= correct <= n"):
        wilson(correct, n)


def test_impossible_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson(1, 2, 95)


@pytest.mark.parametrize(
    ("n", "mean", "least", "most"), [(20, 0.954, 0.899, 0.984), (100, 0.951, 0.92, 0.978), (1000, 0.95, 0.94, 0.966)]
)
def test_exact_coverage_is_what_is_claimed(n: int, mean: float, least: float, most: float) -> None:
    counts, rates = np.arange(n + 1), np.linspace(0.05, 0.99, 471)[:, None]
    low, high = wilson(counts, n)
    held = (stats.binom.pmf(counts, n, rates) * ((low <= rates) & (rates <= high))).sum(axis=1)
    assert held.mean() == pytest.approx(mean, abs=0.001)
    assert least <= held.min()
    assert held.max() <= most
