import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latent import Shared, coverage, draw

from pcbench.analysis.consistency import error_consistency
from pcbench.analysis.decisions import crossed, entropy, settled


def observers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    cells = [both, first, second, neither]
    return np.repeat([1, 1, 0, 0], cells).astype(bool)[None, None], np.repeat([1, 0, 1, 0], cells).astype(bool)[
        None, None
    ]


def test_kappa_is_cohens() -> None:
    """The textbook table 20, 5, 10, 15: observed 0.70, expected 0.50, kappa 0.40."""
    found = error_consistency(*observers(20, 5, 10, 15))
    assert found.observed == pytest.approx(0.7)
    assert found.expected == pytest.approx(0.5)
    assert found.kappa == pytest.approx(0.4)


@settings(max_examples=150, deadline=None)
@given(st.tuples(*[st.integers(0, 12)] * 4).filter(lambda cells: sum(cells) > 0))
def test_the_bounds_are_reached_and_never_passed(cells: tuple[int, ...]) -> None:
    found = error_consistency(*observers(*cells))
    right, n = (cells[0] + cells[1], cells[0] + cells[2]), sum(cells)
    if right in ((0, 0), (n, n)):
        assert np.isnan(found.kappa).all()
        return
    possible = []
    for both in range(max(0, sum(right) - n), min(right) + 1):
        table = (both, right[0] - both, right[1] - both, n - sum(right) + both)
        possible.append(float(error_consistency(*observers(*table)).kappa[0, 0]))
    assert found.least[0, 0] == pytest.approx(min(possible))
    assert found.most[0, 0] == pytest.approx(max(possible))
    assert -1 <= found.low <= found.kappa <= found.high <= 1
    assert found.low < found.high


def test_every_pair_of_timesteps_is_its_own_comparison_and_conditions_are_averaged() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((3, 4, 50)) < 0.7, generator.random((3, 2, 50)) < 0.5
    found = error_consistency(first, second)
    assert found.kappa.shape == (4, 2)
    alone = [error_consistency(first[c : c + 1, 2:3], second[c : c + 1, 1:2]).kappa[0, 0] for c in range(3)]
    assert found.kappa[2, 1] == pytest.approx(np.mean(alone))
    flipped = error_consistency(second, first)
    np.testing.assert_allclose(flipped.kappa.T, found.kappa)
    np.testing.assert_allclose(flipped.low.T, found.low)


def test_a_hard_and_an_easy_condition_make_no_agreement() -> None:
    generator = np.random.default_rng(0)
    rates = np.array([0.95, 0.1])[:, None, None]
    first, second = generator.random((2, 1, 4_000)) < rates, generator.random((2, 1, 4_000)) < rates
    found = error_consistency(first, second)
    assert found.low[0, 0] < 0 < found.high[0, 0]
    pooled = error_consistency(first.reshape(1, 1, -1), second.reshape(1, 1, -1))
    assert pooled.low[0, 0] > 0.5


@pytest.mark.parametrize(("images", "rate"), [(50, 0.7), (100, 0.5), (100, 0.9), (400, 0.95)])
@pytest.mark.parametrize("conditions", [1, 4])
def test_the_interval_covers_what_it_claims(images: int, rate: float, conditions: int) -> None:
    rates = [np.full(conditions, rate), np.full(conditions, rate - 0.1)]
    population = draw(np.random.default_rng(9), rates, 1, 400_000, Shared(0.4, 0.1, 0.1))
    truth = float(error_consistency(*[each.reshape(conditions, 1, -1) for each in population]).kappa[0, 0])
    first, second = draw(np.random.default_rng(1), rates, 500, images, Shared(0.4, 0.1, 0.1))
    found = [error_consistency(first[:, r : r + 1], second[:, r : r + 1]) for r in range(500)]
    held = coverage([each.low[0, 0] for each in found], [each.high[0, 0] for each in found], truth)
    assert 92.5 <= held <= 98.5


def test_outcomes_must_fit() -> None:
    with pytest.raises(ValueError, match="same conditions and images"):
        error_consistency(np.ones((1, 2, 3), bool), np.ones((2, 2, 3), bool))
    with pytest.raises(ValueError, match="truth values"):
        error_consistency(np.ones((1, 2, 3)), np.ones((1, 2, 3)))


def test_an_answer_settles_when_it_changes_for_the_last_time() -> None:
    predictions = np.array([[3, 3, 3], [3, 4, 4], [3, 3, 5], [3, 4, 5]])
    assert settled(predictions).tolist() == [0, 3, 2]
    assert settled(np.array([["cat"], ["dog"]])).tolist() == [1]
    assert settled(np.stack([predictions, predictions[::-1]])).shape == (2, 3)


def test_what_is_never_sure_decides_after_the_end() -> None:
    assert crossed([[0.1, 0.9], [0.8, 0.2], [0.2, 0.1]], 0.8).tolist() == [1, 0]
    assert crossed([[0.1]], 0.8).tolist() == [1]
    with pytest.raises(ValueError, match="NaN"):
        crossed([[np.nan]], 0.8)


def test_entropy_of_certain_and_of_uniform_answers() -> None:
    np.testing.assert_allclose(entropy([[1, 0, 0, 0], [0.25] * 4]), [0, np.log(4)])
