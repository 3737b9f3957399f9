import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latent import Shared, accuracies, draw

from pcbench.analysis.families import family
from pcbench.analysis.means import accuracy
from pcbench.analysis.paired import Paired, paired
from pcbench.analysis.power import images_needed, smallest_difference
from pcbench.analysis.seeds import accuracy_of_recipe, paired_recipes
from pcbench.analysis.verdicts import judge
from pcbench.intervals import wilson


def counts(both: int, gained: int, lost: int, neither: int) -> Paired:
    first = np.repeat([True, True, False, False], [both, gained, lost, neither])
    second = np.repeat([True, False, True, False], [both, gained, lost, neither])
    return paired(first[None], second[None])


def outcomes(seed: int, *shape: int, rate: float = 0.7) -> np.ndarray:
    generator = np.random.default_rng(seed)
    hardness = generator.random(shape[-1])
    return generator.random(shape) * 0.6 + hardness * 0.4 < rate


# --- one condition -----------------------------------------------------------------------------------------------


def test_the_interval_of_one_condition_is_tangos() -> None:
    """The airway data of Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33, 2850-2875): their table."""
    found = counts(1, 1, 7, 12)
    limits = found.interval()
    assert (float(limits.low), float(limits.high)) == (pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4))
    assert float(found.p()) == pytest.approx(0.0339, abs=5e-5)


def test_the_test_of_one_condition_is_mcnemars() -> None:
    assert float(counts(50, 30, 12, 8).statistic()) == pytest.approx(18 / math.sqrt(42))


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(*[st.integers(0, 40)] * 4).filter(lambda cells: sum(cells) > 0),
    st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.9999]),
)
def test_intervals_have_width_hold_the_estimate_and_agree_with_the_p_value(
    cells: tuple[int, ...], level: float
) -> None:
    found = counts(*cells)
    limits = found.interval(level)
    assert -1 <= limits.low <= limits.value <= limits.high <= 1
    assert limits.low < limits.high
    assert bool(limits.low > 0 or limits.high < 0) == bool(found.p() < 1 - level)


def test_swapping_the_systems_mirrors_everything() -> None:
    first, second = outcomes(0, 4, 3, 60), outcomes(1, 4, 3, 60, rate=0.5)
    there, back = paired(first, second), paired(second, first)
    np.testing.assert_allclose(there.interval().low, -back.interval().high, atol=1e-12)
    np.testing.assert_allclose(there.p(), back.p())


def test_no_discordant_image_is_no_proof_of_no_difference() -> None:
    limits = counts(15, 0, 0, 5).interval()
    assert float(limits.high) == pytest.approx(1.959964**2 / (20 + 1.959964**2))
    assert float(limits.low) == -float(limits.high)
    same = outcomes(0, 75, 20)
    together = paired(same, same).interval()
    assert together.low < 0 < together.high


def test_one_image_says_next_to_nothing() -> None:
    limits = counts(0, 1, 0, 0).interval()
    assert float(limits.high) == 1
    assert float(limits.low) < 0


# --- means over conditions ---------------------------------------------------------------------------------------


def test_the_parts_of_a_power_calculation_come_with_a_difference() -> None:
    found = paired(outcomes(0, 5, 60), outcomes(1, 5, 60))
    assert float(found.discordance) == pytest.approx((outcomes(0, 5, 60) != outcomes(1, 5, 60)).mean())
    assert 0.1 < float(found.design_effect) <= 1


def test_conditions_that_repeat_each_other_count_once() -> None:
    one, other = outcomes(0, 1, 80), outcomes(1, 1, 80)
    single, repeated = paired(one, other), paired(np.repeat(one, 7, axis=0), np.repeat(other, 7, axis=0))
    np.testing.assert_allclose(repeated.effective, single.effective)
    np.testing.assert_allclose(repeated.interval().low, single.interval().low, atol=1e-9)
    mean = accuracy(np.repeat(one, 7, axis=0))
    assert (float(mean.low), float(mean.high)) == pytest.approx([float(limit) for limit in wilson(one.sum(), 80)])


def test_independent_conditions_count_as_more_images() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 10, 400)) < 0.5
    assert float(paired(first, second).effective) == pytest.approx(4_000, rel=0.2)


def test_weights_say_what_a_condition_counts() -> None:
    first, second = outcomes(0, 3, 50), outcomes(1, 3, 50, rate=0.5)
    chosen = paired(first, second, weights=[0, 2, 0])
    alone = paired(first[1:2], second[1:2])
    for name in ("gained", "lost", "effective"):
        np.testing.assert_allclose(getattr(chosen, name), getattr(alone, name))
    equal = paired(first, second, weights=[1, 1, 1])
    np.testing.assert_allclose(equal.interval().low, paired(first, second).interval().low)
    with pytest.raises(ValueError, match="3 numbers >= 0"):
        paired(first, second, weights=[1, 1])


def test_all_cells_at_once_equal_single_calls_and_the_baseline_is_repeated() -> None:
    first, second = outcomes(0, 5, 4, 60), outcomes(1, 5, 1, 60)
    table = paired(first, second).interval()
    for t in range(4):
        alone = paired(first[:, t], second[:, 0]).interval()
        assert (table.low[t], table.high[t]) == (alone.low, alone.high)


def test_outcomes_must_be_truth_values() -> None:
    with pytest.raises(ValueError, match="truth values"):
        paired(np.ones((1, 3)), np.ones((1, 3)))


# --- families ----------------------------------------------------------------------------------------------------


def test_a_family_of_one_changes_nothing() -> None:
    found = counts(50, 30, 12, 8)
    alone = family("one difference", [[found]])
    assert float(alone.p(found.p())) == pytest.approx(float(found.p()))
    assert alone.marginal_level() == pytest.approx(0.95)
    assert str(alone) == "1 test: one difference"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 0.7), st.integers(20, 60))
def test_simultaneous_intervals_and_corrected_p_values_agree(seed: int, rate: float, images: int) -> None:
    first, second = outcomes(seed, 1, 4, 6, images), outcomes(seed, 1, 4, 6, images, rate=rate)
    found = paired(first, second)
    judged = judge(found, family("all", [[found]], draws=999), margin=0.1)
    out = (judged.simultaneous.low > 0) | (judged.simultaneous.high < 0)
    np.testing.assert_array_equal(out, judged.p_corrected < 0.05)
    np.testing.assert_array_equal(out, np.isin(judged.words, ["better", "worse"]))
    inside = (judged.simultaneous.low > -0.1) & (judged.simultaneous.high < 0.1)
    np.testing.assert_array_equal(inside, judged.p_equivalent < 0.05)
    assert (judged.p_corrected >= judged.p).all()
    assert (judged.simultaneous.low <= judged.difference.low).all()


def test_tests_that_repeat_each_other_are_hardly_corrected_and_independent_ones_as_by_sidak() -> None:
    first, second = outcomes(0, 1, 400), outcomes(1, 1, 400)
    once = paired(first, second)
    repeated = paired(np.repeat(first[None], 30, axis=1), np.repeat(second[None], 30, axis=1))
    assert 1 - family("the same", [[repeated]]).marginal_level() > 0.03
    alone = family("apart", [[once]] * 30)  # blocks are independent
    assert 1 - alone.marginal_level() == pytest.approx(1 - 0.95 ** (1 / 30), rel=0.25)
    assert alone.size == 30


def test_a_tiny_p_value_survives_the_draws() -> None:
    many = family("many", [[counts(50, 30, 12, 8)]] * 100, draws=500)
    assert float(many.p(1e-12)) == pytest.approx(1e-10, rel=0.01)


@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_simultaneous_intervals_all_hold_together(gap: float) -> None:
    generator = np.random.default_rng(0)
    rates = accuracies(0.5, 20)
    missed = 0
    for _ in range(200):
        first, second = draw(generator, [accuracies(0.5 + gap, 20), rates], 1, 100, Shared(0.5, 0.1, 0.2))
        found = paired(first[None, :, 0], second[None, :, 0])
        limits = found.interval(family("20 conditions", [[found]], draws=999).marginal_level())
        truth = accuracies(0.5 + gap, 20) - rates
        missed += bool(((limits.low > truth) | (limits.high < truth)).any())
    assert missed <= 20  # 5 % of 200 is 10; more than 20 has a probability of 0.001


# --- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "margin", "word"),
    [
        (counts(500, 80, 20, 400), None, "better"),
        (counts(500, 20, 80, 400), 0.01, "worse"),
        (counts(500, 20, 22, 458), 0.02, "equivalent"),
        (counts(500, 20, 22, 458), 0.01, "no difference shown"),
        (counts(500, 20, 22, 458), None, "no difference shown"),
        (counts(15, 0, 0, 5), 0.01, "no difference shown"),
    ],
)
def test_the_words(found: Paired, margin: float | None, word: str) -> None:
    assert judge(found, margin=margin).words == word


def test_sentences_say_the_effect_first() -> None:
    assert judge(counts(500, 80, 20, 400)).sentence(where="at t = 4") == (
        "better at t = 4 by 6.0 points [4.1, 8.0], p < 0.001"
    )
    assert judge(counts(500, 20, 80, 400)).sentence() == "worse by 6.0 points [4.1, 8.0], p < 0.001"
    big = counts(50_000, 450, 300, 49_250)
    assert judge(big, margin=0.01).sentence() == (
        "better by 0.1 points [0.1, 0.2], yet within the margin of 1, p < 0.001"
    )


def test_equivalence_by_itself_is_the_interval_at_twice_the_error() -> None:
    found = counts(500, 20, 22, 458)
    ninety = found.interval(0.9)
    edge = max(-float(ninety.low), float(ninety.high))
    assert judge(found, margin=edge * 1.001).words == "equivalent"
    assert judge(found, margin=edge * 0.999).words == "no difference shown"


# --- seeds -------------------------------------------------------------------------------------------------------


def test_one_training_is_refused_as_a_recipe() -> None:
    with pytest.raises(ValueError, match="two trainings"):
        accuracy_of_recipe(outcomes(0, 1, 2, 30))
    with pytest.raises(ValueError, match="two trainings"):
        paired_recipes(outcomes(0, 1, 2, 30), outcomes(0, 1, 2, 30))


def test_a_comparison_of_recipes_says_what_it_covers() -> None:
    found = paired_recipes(outcomes(0, 3, 2, 4, 30), outcomes(1, 1, 2, 4, 30))
    assert found.covers == "images and 3 seeds of the first"
    assert found.difference.shape == (4,)
    limits, p = found.interval(), found.p()
    np.testing.assert_array_equal((limits.low > 0) | (limits.high < 0), p < 0.05)
    both = paired_recipes(outcomes(0, 3, 2, 30), outcomes(1, 5, 2, 30))
    assert both.covers == "images and 3 seeds of the first and 5 seeds of the second"


def test_seeds_that_are_all_alike_leave_the_images() -> None:
    one, other = outcomes(0, 1, 1, 200), outcomes(1, 1, 1, 200)
    found = paired_recipes(np.repeat(one, 3, axis=0), np.repeat(other, 3, axis=0))
    assert float(found.effective) == pytest.approx(200, rel=0.02)


# --- power -------------------------------------------------------------------------------------------------------


def test_so_many_images_show_the_difference_as_often_as_asked() -> None:
    """Connor's formula for gains of 7 % and losses of 3 %, by hand and by simulation."""
    needed = images_needed(0.04, 0.1, power=0.8)
    by_hand = (1.959964 * math.sqrt(0.1) + 0.841621 * math.sqrt(0.1 - 0.04**2)) ** 2 / 0.04**2
    assert needed == math.ceil(by_hand)
    cells = np.random.default_rng(0).multinomial(needed, [0.07, 0.03, 0.9], size=4_000)
    shares = cells / needed
    p = Paired(shares[:, 0], shares[:, 1], needed, np.full(4_000, float(needed))).p()
    assert 0.77 < (p < 0.05).mean() < 0.83


def test_more_images_show_less() -> None:
    assert smallest_difference(5, 0.1) is None
    small = smallest_difference(10_000, 0.1)
    assert small is not None
    assert images_needed(small, 0.1) <= 10_000 < images_needed(small * 0.999, 0.1)
    with pytest.raises(ValueError, match="difference of 0"):
        images_needed(0, 0.1)
