import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latent import accuracies, coverage, draw

from pcbench.analysis.means import accuracy
from pcbench.analysis.paired import paired
from pcbench.analysis.summaries import (
    above_chance,
    area_weights,
    beyond_frontier,
    effective_robustness,
    envelope,
    weigh_above_chance,
)


def exact(rate: float, n: int = 100) -> np.ndarray:
    return np.arange(n) < round(rate * n)


# --- area above chance -------------------------------------------------------------------------------------------


def test_levels_at_chance_do_not_decide() -> None:
    """A blur that wins by luck where all guess, and loses where there is something to see."""
    strengths = [0.25, 0.5, 0.75, 1, 2]
    network = np.stack([exact(rate, 1000) for rate in (0.80, 0.60, 0.12, 0.10, 0.10)])
    blur = np.stack([exact(rate, 1000) for rate in (0.77, 0.58, 0.25, 0.22, 0.20)])
    baseline = np.stack([exact(rate, 1000) for rate in (0.75, 0.5, 0.11, 0.10, 0.09)])
    assert paired(network, blur).difference < 0
    kept = above_chance(baseline, 0.1)
    assert kept.tolist() == [True, True, False, False, False]
    assert float(paired(network, blur, area_weights(strengths, kept)).difference) == pytest.approx(0.025)


def test_each_perturbation_counts_once_and_one_that_nobody_withstands_is_named() -> None:
    conditions = [("fog", 1.0), ("fog", 2.0), ("fog", 3.0), ("snow", 1.0), ("glass", 1.0)]
    baseline = np.stack([exact(rate) for rate in (0.9, 0.5, 0.1, 0.6, 0.12)])
    found = weigh_above_chance(conditions, baseline, 0.1)
    np.testing.assert_allclose(found.weights, [0.25, 0.25, 0, 0.5, 0])
    assert found.kept.tolist() == [True, True, False, True, False]
    assert found.left_out == ("glass",)
    with pytest.raises(ValueError, match="at chance in every condition"):
        weigh_above_chance(conditions[2:3], baseline[2:3], 0.1)


def test_the_area_is_the_trapezoid_over_the_range() -> None:
    strengths, rates = np.array([2.0, 0.5, 1.0]), [0.2, 0.9, 0.5]
    table = np.stack([exact(rate) for rate in rates])
    found = accuracy(table, area_weights(strengths, [True] * 3))
    assert float(found.value) == pytest.approx(np.trapezoid([0.9, 0.5, 0.2], [0.5, 1, 2]) / 1.5)
    assert area_weights([1, 2], [False, True]).tolist() == [0, 1]
    with pytest.raises(ValueError, match="at chance at every strength"):
        area_weights([1, 2], [False, False])
    with pytest.raises(ValueError, match="same strength"):
        area_weights([1, 1], [True, True])


# --- frontier ----------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=7),
    st.integers(0, 39).map(lambda k: (k + 0.5) / 40),
)
def test_the_frontier_is_the_best_mixture_of_two_controls(points: list[tuple[int, int]], at: float) -> None:
    clean, perturbed = np.array(points).T / 20
    best = float("nan")
    share = np.linspace(0, 1, 2001)
    for i, j in np.ndindex(len(points), len(points)):
        keeps = share * clean[i] + (1 - share) * clean[j] >= at
        best = np.fmax(best, np.max((share * perturbed[i] + (1 - share) * perturbed[j])[keeps], initial=-1))
    best = float("nan") if best < 0 else best
    assert envelope(clean, perturbed, at) == pytest.approx(best, abs=1.1e-3, nan_ok=True)


def test_a_network_that_trades_as_a_control_does_is_on_the_frontier() -> None:
    control = np.stack([exact(0.9), exact(0.7)]), np.stack([exact(0.3), exact(0.5)])
    system = np.stack([exact(0.8), exact(0.8), exact(0.95)]), np.stack([exact(0.4), exact(0.5), exact(0.3)])
    found = beyond_frontier(*system, *control)
    np.testing.assert_allclose(found.value.value[:2], [0, 0.1], atol=1e-9)
    assert np.isnan(found.value.value[2])
    assert np.isnan(found.p[2])
    assert found.value.low[0] < 0 < found.value.high[0]


def test_the_interval_of_an_excess_covers_what_it_claims() -> None:
    clean, perturbed = accuracies(0.85, 1), accuracies(0.5, 1)
    held = {beyond_frontier: [], effective_robustness: []}
    for rep in range(400):
        generator = np.random.default_rng(rep)
        pairs = [(clean, perturbed), (clean + 0.05, perturbed - 0.1), (clean - 0.1, perturbed + 0.05)]
        both = np.concatenate(draw(generator, [np.concatenate(pair) for pair in pairs], 1, 200), axis=1)
        for function, found in held.items():
            result = function(both[0, :1], both[1, :1], both[0, 1:], both[1, 1:])
            found.append((result.value.low[0], result.value.high[0]))
    line = 0.5 - 0.1 + (0.9 - 0.85) / (0.9 - 0.75) * 0.15
    frontier = np.array(held[beyond_frontier]).T
    assert 92 <= coverage(*frontier, 0.5 - line) <= 98.5
    x, y = (np.log(v / (1 - v)) for v in (np.array([0.9, 0.75, 0.85]), np.array([0.4, 0.55, 0.5])))
    guess = y[0] + (y[1] - y[0]) / (x[1] - x[0]) * (x[2] - x[0])
    robustness = np.array(held[effective_robustness]).T
    assert 92 <= coverage(*robustness, 0.5 - 1 / (1 + np.exp(-guess))) <= 98.5


# --- effective robustness ----------------------------------------------------------------------------------------


def test_effective_robustness_is_the_distance_from_the_controls_line() -> None:
    controls = np.stack([exact(0.5), exact(0.8)]), np.stack([exact(0.2), exact(0.5)])
    on_the_line = effective_robustness(exact(0.8), exact(0.5), *controls)
    np.testing.assert_allclose(on_the_line.value.value, [0], atol=1e-12)
    above = effective_robustness(exact(0.8), exact(0.6), *controls)
    np.testing.assert_allclose(above.value.value, [0.1])
    np.testing.assert_allclose(above.expected, [0.5])
    with pytest.raises(ValueError, match="different clean accuracies"):
        effective_robustness(exact(0.8), exact(0.5), controls[0][:1], controls[1][:1])


def test_luck_beyond_the_first_strength_at_chance_counts_nothing() -> None:
    conditions = [("noise", 2.0), ("noise", 0.25), ("noise", 1.0), ("noise", 0.5)]
    baseline = np.zeros((4, 1000), bool)
    for row, right in enumerate((140, 500, 100, 300)):
        baseline[row, :right] = True
    found = weigh_above_chance(conditions, baseline, 0.1)
    assert found.kept.tolist() == [False, True, False, True]
    assert found.weights[[0, 2]].tolist() == [0, 0]
