"""Comparisons from answers made by hand: numbers, intervals, p-values and words that cannot contradict each other."""

import numpy as np
import pandas as pd
import pytest

from pcbench.analysis.alexnet import BENCHMARK
from pcbench.analysis.answers import Answers
from pcbench.analysis.comparison import Side, ask, measure, own_start, pairs, systems
from pcbench.analysis.headline import AREA, BEYOND, CLEAN, MATCHED, headline
from pcbench.analysis.metrics import mce
from pcbench.analysis.wording import verdicts
from pcbench.errors import UserError
from pcbench.keys import Condition, DataKey, ModelKey
from pcbench.report.comparison import in_fractions
from pcbench.report.tables import headline_grid, overall_grid
from pcbench.results.study import System

IMAGES = 80


def answers(name: str, rates: dict[tuple[str, float], list[float]], seed: int = 0, images: int = IMAGES) -> Answers:
    """Of a system whose accuracy in (perturbation, severity) at t is given; the same images are hard for all."""
    hardness = np.random.default_rng(0).random(images)
    noise = np.random.default_rng(seed).normal(0, 0.08, (len(rates), images, 1))
    values = hardness[None, :, None] + noise < np.array(list(rates.values()))[:, None, :]
    keys = tuple(
        Condition(kind="corruption", perturbation=p, group="clean" if p == "clean" else "noise", severity=s)
        for p, s in rates
    )
    conditions = pd.DataFrame(
        [{"perturbation": k.perturbation, "group": k.group, "severity": k.severity} for k in keys]
    )
    system = System(ModelKey(name, "w"), DataKey("d", "f", images), values.shape[2] - 1, 0, "float32", "1")
    ids = np.array([f"i{k:03d}" for k in range(images)], dtype=object)
    timesteps = list(range(values.shape[2]))
    return Answers(system, name, "suite", conditions, keys, ids, timesteps, values, classes=1000)


def corruptions(shift: float, timesteps: int = 3) -> dict[tuple[str, float], list[float]]:
    return {
        (name, float(s)): [0.95 - 0.15 * s + shift * t for t in range(timesteps)]
        for name in BENCHMARK[:4]
        for s in range(1, 6)
    }


@pytest.fixture
def question():
    rates = {("clean", 0.0): [0.9, 0.9, 0.2], **corruptions(0.03)}
    dynamic, static = (
        Side("dynamic", answers("dynamic", rates, 1)),
        Side("static", answers("static", corruptions_of(rates), 2)),
    )
    return ask(measure(dynamic, static), margin=0.2)


def corruptions_of(rates: dict[tuple[str, float], list[float]]) -> dict[tuple[str, float], list[float]]:
    return {key: each[:1] for key, each in rates.items()}


def test_numbers_are_those_counted_by_hand(question) -> None:
    rates = {("clean", 0.0): [0.9, 0.9, 0.2], **corruptions(0.03)}
    ours, theirs = answers("dynamic", rates, 1), answers("static", corruptions_of(rates), 2)
    table = question.table
    row = table[(table["level"] == "condition") & (table["perturbation"] == "shot_noise") & (table["severity"] == 3)]
    place = list(rates).index(("shot_noise", 3.0))
    np.testing.assert_allclose(row["accuracy"], 100 * ours.values[place].mean(axis=0))
    np.testing.assert_allclose(row["difference"], 100 * (ours.values[place] * 1.0 - theirs.values[place]).mean(axis=0))
    np.testing.assert_allclose(row["gained"], (ours.values[place] & ~theirs.values[place]).sum(axis=0))
    overall = table[table["level"] == "overall"]
    np.testing.assert_allclose(overall["accuracy"], 100 * ours.per_image().mean(axis=0))
    np.testing.assert_allclose(overall["reference"], 100 * theirs.per_image().mean(axis=0)[[0, 0, 0]])
    assert len(table) == 3 * (21 + 5 + 1)


def test_clean_images_do_not_decide_the_mean_over_corruptions(question) -> None:
    assert question.at(2).words == "better"
    assert question.at(2, "clean").words == "worse"


def test_words_intervals_and_p_values_agree_in_every_row(question) -> None:
    table = question.table
    out = (table["sim_low"] > 0) | (table["sim_high"] < 0)
    np.testing.assert_array_equal(out, table["significant"])
    np.testing.assert_array_equal(table["significant"], table["p_corrected"] < 0.05)
    np.testing.assert_array_equal(table["significant"], table["verdict"].isin(["better", "worse"]))
    inside = (table["sim_low"] > -20) & (table["sim_high"] < 20)
    np.testing.assert_array_equal(table["verdict"] == "equivalent", inside & ~out)
    for low, value, high in (("ci_low", "accuracy", "ci_high"), ("diff_low", "difference", "diff_high")):
        assert (table[low] <= table[value]).all()
        assert (table[value] <= table[high]).all()
        assert (table[low] < table[high]).all()
    assert (table["sim_low"] <= table["diff_low"]).all()
    assert verdicts(question)[0].startswith("dynamic against static, suite: better at t = 2 by ")


def test_each_family_is_named(question) -> None:
    families = [note for note in question.notes if note.startswith("family of tests")]
    assert [note.split(":")[1].strip() for note in families] == ["63 tests", "15 tests", "3 tests"]
    assert "the mean over 4 perturbations x 3 timesteps" in families[2]


def test_nothing_is_asked_where_both_are_the_same_by_construction() -> None:
    dynamic = Side("dynamic", answers("dynamic", corruptions(0.0), 1))
    question = ask(measure(dynamic, own_start(dynamic)))
    start = question.table[question.table["timestep"] == 0]
    assert start["p"].isna().all()
    assert start["p_corrected"].isna().all()
    assert not question.table["significant"].any()
    assert any("2 tests" in note for note in question.notes)  # t = 1 and t = 2 of the mean
    assert set(question.table["verdict"]) == {"right on the same images", "no difference shown"}
    assert overall_grid(question).rows
    assert (in_fractions(question.table)["sim_high"] <= 1).all()


def test_one_image_is_compared_without_claims() -> None:
    rates = {("fog", 1.0): [1.2, -0.2]}
    found = systems([answers("dynamic", rates, images=1), answers("static", {("fog", 1.0): [1.2]}, images=1)])
    for pair in pairs(found, {"dynamic": "static", "static": None}):
        question = ask(measure(*pair))
        assert not question.table["significant"].any()
        assert (question.table["sim_low"] < question.table["sim_high"]).all()
        assert (question.table["ci_low"] <= question.table["accuracy"]).all()
        assert (question.table["accuracy"] <= question.table["ci_high"]).all()


def test_corruption_errors_are_those_of_the_tables_of_errors() -> None:
    rates = {(name, float(s)): [0.9 - 0.1 * s, 0.95 - 0.1 * s] for name in BENCHMARK for s in range(1, 6)}
    dynamic = answers("dynamic", rates, 1)
    side = Side("dynamic", dynamic)
    found = ask(measure(side, own_start(side))).corruption_errors
    assert set(found["measure"]) == {"mCE", "mCE difference", "ratio of means", "mean of ratios"}
    by_hand = [
        mce({name: [1 - float(v) for v in dynamic.of(name)[:, :, t].mean(axis=1)] for name in BENCHMARK})
        for t in (0, 1)
    ]
    rows = found.set_index(["measure", "timestep"])
    assert rows.loc["mCE", "value"].tolist() == pytest.approx(by_hand)
    assert rows.loc[("mCE difference", 1), "value"] == pytest.approx(by_hand[1] - by_hand[0])
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()
    assert rows.loc[("ratio of means", 1), "p_corrected"] < 0.05
    assert np.isnan(rows.loc[("ratio of means", 0), "p"])


def test_an_unknown_timestep_or_perturbation_is_named(question) -> None:
    with pytest.raises(UserError, match="no snow at t = 1"):
        question.at(1, "snow")
    with pytest.raises(UserError, match="no all at t = 9"):
        question.at(9)


def test_the_headline_sets_a_network_against_lines_and_controls_of_its_clean_accuracy() -> None:
    def side(name: str, clean: list[float], noisy: list[float]) -> Side:
        return Side(name, answers(name, {("clean", 0.0): clean, ("fog", 1.0): noisy}, images=2000))

    network, base = side("net", [0.9, 0.8], [0.5, 0.75]), side("base", [0.9], [0.5])
    weaker = [side(f"static{k}", [0.9 - k / 10], [0.5 - k / 10]) for k in (1, 2)]
    blur = side("diffusion:base", [0.9, 0.8], [0.5, 0.6])
    sides = [network, base, *weaker, blur]
    clean = {each.answers.system: each.answers for each in sides}
    found = headline(measure(network, base), clean, sides).table.set_index("measure")
    assert found.index.tolist() == [CLEAN, AREA, BEYOND, MATCHED]
    assert found["verdict"].tolist() == ["worse", "better", "better", "better"]
    assert found.loc[MATCHED, "difference"] == pytest.approx(15, abs=3)  # 0.75 where the blur has 0.6
    assert found.loc[BEYOND, "difference"] == pytest.approx(35, abs=5)  # 0.75 where 0.4 is on the line
    assert (found["low"] <= found["difference"]).all()
    assert (found["difference"] <= found["high"]).all()
    grid = headline_grid(ask(measure(network, base), headline=headline(measure(network, base), clean, sides)))
    assert [row[0].text for row in grid.rows] == ["clean t=1", "area t=1", "line t=1", "control t=1"]


def test_noise_of_strength_0_is_clean_and_chance_levels_are_no_part_of_the_area() -> None:
    rates = {("g", 0.0): [0.9, 0.3], ("g", 0.5): [0.5, 0.7], ("g", 2.0): [-0.5, -0.5]}
    network = Side("net", answers("net", rates, images=2000))
    found = headline(measure(network, own_start(network)), {network.answers.system: network.answers.rows([0])}).table
    by = found.set_index("measure")
    assert by["verdict"].to_dict() == {CLEAN: "worse", AREA: "better"}
    assert by.loc[AREA, "difference"] == pytest.approx(20, abs=3)
    assert "1 of 2 conditions" in by.loc[AREA, "conditions"]
    overall = ask(measure(network, own_start(network))).table.query("level == 'overall' and timestep == 1")
    assert overall["difference"].item() == pytest.approx(10, abs=2)  # the mean of the two strengths, without clean
