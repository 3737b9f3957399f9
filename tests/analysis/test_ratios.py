import numpy as np
import pytest
from latent import accuracies, coverage, draw

from pcbench.analysis.alexnet import BENCHMARK, ERRORS
from pcbench.analysis.families import family
from pcbench.analysis.means import accuracy
from pcbench.analysis.metrics import mce, relative_to
from pcbench.analysis.paired import paired
from pcbench.analysis.ratios import mce_weights, ratio, ratio_of_amounts


def errors(seed: int, *shape: int, rate: float = 0.4) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.random(shape) < rate).astype(float)


@pytest.mark.parametrize("how", ["ratio-of-means", "mean-of-ratios"])
def test_the_value_is_that_of_the_table_of_errors(how: str) -> None:
    ours, theirs = errors(0, 3, 50), errors(1, 3, 50, rate=0.6)
    tables = [{str(c): [each[c].mean()] for c in range(3)} for each in (ours, theirs)]
    assert 100 * float(ratio(ours, theirs, how).value) == pytest.approx(relative_to(*tables, how))


@pytest.mark.parametrize("how", ["ratio-of-means", "mean-of-ratios"])
@pytest.mark.parametrize(("images", "around", "gap"), [(100, 0.7, 0.0), (100, 0.9, 0.03), (400, 0.5, 0.1)])
def test_the_interval_covers_what_it_claims(how: str, images: int, around: float, gap: float) -> None:
    theirs = accuracies(around, 4, spread=0.4)
    ours = theirs + gap
    first, second = (1.0 - each for each in draw(np.random.default_rng(0), [ours, theirs], 1_500, images))
    truth = (1 - ours).mean() / (1 - theirs).mean() if how == "ratio-of-means" else ((1 - ours) / (1 - theirs)).mean()
    limits = ratio(first, second, how).interval()
    assert 92.5 <= coverage(limits.low, limits.high, truth) <= 98.5


def test_p_value_and_interval_agree_and_swapping_inverts() -> None:
    ours, theirs = errors(0, 2, 30, 60), errors(1, 2, 30, 60, rate=0.5)
    there, back = ratio(ours, theirs, "ratio-of-means"), ratio(theirs, ours, "ratio-of-means")
    limits = there.interval()
    np.testing.assert_array_equal((limits.low > 1) | (limits.high < 1), there.p() < 0.05)
    np.testing.assert_allclose(limits.low, 1 / back.interval().high)
    corrected = family("30 ratios", [[there]])
    assert (corrected.p(there.p()) >= there.p()).all()
    assert (there.interval(corrected.marginal_level()).low <= limits.low).all()


def test_equal_errors_have_width_and_no_errors_have_no_ratio() -> None:
    same = errors(0, 2, 40)
    limits = ratio(same, same, "mean-of-ratios").interval()
    assert limits.low < 1 == limits.value < limits.high
    none = ratio(same, np.zeros((2, 40)), "ratio-of-means")
    assert np.isnan(none.value)
    assert np.isnan(none.p())
    assert ratio(np.zeros((2, 40)), same, "ratio-of-means").interval().low == 0


def test_mce_is_a_weighted_mean_error() -> None:
    conditions = [(name, float(s)) for name in [*BENCHMARK, "saturate"] for s in range(1, 6)]
    wrong = np.random.default_rng(0).random((len(conditions), 40)) < 0.5
    weights, scale = mce_weights(conditions, ERRORS, BENCHMARK)
    table = {name: [float(wrong[conditions.index((name, float(s)))].mean()) for s in range(1, 6)] for name in BENCHMARK}
    found = accuracy(wrong, weights) * scale
    assert float(found.value) == pytest.approx(mce(table))
    assert found.low < found.value < found.high
    other = np.random.default_rng(1).random(wrong.shape) < 0.4
    difference = -scale * float(paired(~wrong, ~other, weights).difference)
    assert difference == pytest.approx(float(found.value) - float((accuracy(other, weights) * scale).value))
    with pytest.raises(ValueError, match="takes fog at severities 1-5"):
        mce_weights([key for key in conditions if key != ("fog", 3.0)], ERRORS, BENCHMARK)


@pytest.mark.parametrize("images", [20, 100, 1000])
def test_the_interval_of_a_ratio_of_distances_covers_what_it_claims(images: int) -> None:
    generator = np.random.default_rng(images)
    common = generator.normal(0, 0.4, (2000, images))
    start, later = (np.exp(common + generator.normal(0, 0.15, common.shape)) for _ in range(2))
    found = ratio_of_amounts(0.8 * later, start)
    covered = ((found.low <= 0.8) & (found.high >= 0.8)).mean()
    assert 0.93 <= covered <= 0.97
