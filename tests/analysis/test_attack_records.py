"""What is read off the records of attacks, against sums done by hand."""

import pandas as pd
import pytest
from attacked import CLEAN, attack, cell
from rich.console import Console

from pcbench.analysis.attacks import (
    WORST,
    compare_robustness,
    main_attack,
    matrix,
    over_time,
    robust_accuracy,
    successes,
    worst_cases,
)
from pcbench.analysis.attacks import attack_records as parsed
from pcbench.cli._summary import robust_summary


@pytest.fixture
def records() -> pd.DataFrame:
    rows = [
        *cell(CLEAN, ["abc", "abcd"]),
        *cell(attack(at=0), ["a", "abcd"], "abc"),
        *cell(attack(at=1), ["abc", "ab"]),
        *cell(attack(at=0, epsilon=0.2), ["", "ab"], "abc"),
        *cell(attack(at=1, epsilon=0.2), ["a", "a"]),
        *cell(attack("fgsm", at=1), ["abc", "bcd"]),
        *cell(attack(at=0, source="base"), ["ab", "abc"]),
        *cell(attack(at=1, norm="l2"), ["abc", "c"]),
    ]
    return pd.DataFrame(rows)


def test_the_matrix_counts_the_attacked_images_at_every_timestep(records: pd.DataFrame) -> None:
    found = matrix(records, "pgd", 0.1).set_index(["at", "timestep"])
    assert found["correct"].to_dict() == {(0, 0): 1, (0, 1): 3, (1, 0): 3, (1, 1): 2}
    assert found["n"].to_dict() == {(0, 0): 3, (0, 1): 3, (1, 0): 4, (1, 1): 4}
    assert found.loc[(0, 0), "accuracy"] == pytest.approx(1 / 3)


def test_robust_accuracy_names_its_denominator(records: pd.DataFrame) -> None:
    found = robust_accuracy(records).set_index(["label", "norm", "epsilon", "timestep"])
    row = found.loc[("pgd", "linf", 0.1, 0)]
    assert (row["n"], row["correct"], row["n_clean"], row["robust_of_clean"]) == (4, 1, 3, pytest.approx(1 / 3))
    assert row["robust"] == 0.25
    assert ("fgsm", "linf", 0.1, 0) not in found.index
    assert ("pgd, from base", "linf", 0.1, 1) in found.index


def test_the_worst_case_is_taken_image_by_image_over_all_attacks_of_a_ball(records: pd.DataFrame) -> None:
    found = robust_accuracy(records)
    worst = found[found["label"] == WORST].set_index(["norm", "epsilon", "timestep"])
    # t = 1, 0.1: pgd@t0 abcd, pgd@t1 ab, fgsm bcd, transfer abc -> b; the L2 attack is in another ball
    assert worst.loc[("linf", 0.1, 1), "correct"] == 1
    assert worst.loc[("linf", 0.1, 1), "conditions"] == 4
    assert worst.loc[("linf", 0.2, 1), "correct"] == 1
    assert ("l2", 0.1, 1) not in worst.index
    for key, row in worst.iterrows():
        others = found[(found[["norm", "epsilon", "timestep"]] == list(key)).all(axis=1)]
        assert row["correct"] <= others["correct"].min()


def test_a_radius_is_summed_up_by_the_worst_case_at_the_first_and_last_attacked_timestep(records: pd.DataFrame) -> None:
    found = worst_cases(robust_accuracy(records))
    assert found[["norm", "epsilon", "timestep", "label", "correct"]].to_numpy().tolist() == [
        ["l2", 0.1, 1, "pgd, l2", 1],
        ["linf", 0.1, 0, WORST, 1],
        ["linf", 0.1, 1, WORST, 1],
        ["linf", 0.2, 0, WORST, 0],
        ["linf", 0.2, 1, WORST, 1],
    ]


def test_the_terminal_names_both_denominators_with_their_intervals(records: pd.DataFrame) -> None:
    console = Console(width=200)
    with console.capture() as said:
        console.print(robust_summary(robust_accuracy(records).assign(model="m", suite="s", doubts="")))
    (line,) = [line for line in said.get().splitlines() if line.split()[:4] == ["linf", "0.1", "0", "4"]]
    # a alone of four images survives at t = 0, and of the three that are right without attack
    assert "25.0 [4.6, 69.9] of 4" in line
    assert "33.3 [6.1, 79.2] of 3" in line


def test_curves_have_each_timestep_under_its_own_attack_and_the_clean_line(records: pd.DataFrame) -> None:
    found = over_time(records, "pgd").set_index(["epsilon", "timestep"])["correct"].to_dict()
    assert found == {(0.0, 0): 3, (0.0, 1): 4, (0.1, 0): 1, (0.1, 1): 2, (0.2, 0): 0, (0.2, 1): 1}


def test_successes_are_shifted_so_that_the_feedforward_rate_is_one(records: pd.DataFrame) -> None:
    found = successes(records, "pgd").set_index(["epsilon", "timestep"])
    assert found["successes"].to_dict() == {(0.1, 0): 2, (0.1, 1): 2, (0.2, 0): 3, (0.2, 1): 3}
    assert found.loc[(0.1, 1), "relative"] == pytest.approx(2 / 4 - 2 / 3 + 1)
    assert found.loc[(0.2, 0), "relative"] == 1


def test_the_main_attack_has_the_most_conditions(records: pd.DataFrame) -> None:
    assert main_attack(parsed(records)) == "pgd"
    assert main_attack(parsed(records[records["group"] == "clean"])) is None


def test_a_suite_without_attacks_has_empty_tables(records: pd.DataFrame) -> None:
    clean = records[records["group"] == "clean"]
    assert robust_accuracy(clean).empty
    assert matrix(clean, "pgd", 0.1).empty


def test_an_attack_that_stops_when_its_timestep_is_fooled_says_nothing_of_another() -> None:
    rows = [*cell(attack(at=0, judged="aimed"), ["a", "abcd"]), *cell(attack(at=1, judged="aimed"), ["abc", "ab"])]
    found = matrix(pd.DataFrame(rows), "pgd", 0.1)
    assert found[["at", "timestep", "correct"]].to_numpy().tolist() == [[0, 0, 1], [1, 1, 2]]


def test_nothing_is_said_of_a_timestep_at_which_nothing_aimed() -> None:
    rows = [
        *cell(CLEAN, ["abcd"] * 3),
        *cell(attack(at=1), ["abcd", "a", "abc"]),
        *cell(attack("fgsm", at=1), ["abcd"] * 3),
    ]
    found = robust_accuracy(pd.DataFrame(rows))
    assert set(found["timestep"]) == {1}
    assert found.set_index("label").loc[WORST, "correct"] == 1


def test_evidence_lowers_the_worst_case() -> None:
    strong = attack(at=1, role="strong", options={"steps": 50})
    rows = [*cell(CLEAN, ["abcd"] * 2), *cell(attack(at=1), ["abcd", "abc"]), *cell(strong, ["abcd", "a"])]
    found = worst_cases(robust_accuracy(pd.DataFrame(rows)))
    assert found["correct"].tolist() == [1]


def test_labels_tell_attacks_apart_and_are_made_of_types() -> None:
    conditions = [
        attack(options={"steps": 20}),
        attack(options={"steps": 20}, loss="ce"),
        attack(options={"steps": 20}, norm="l2"),
        attack(options={"steps": 20}, objective="states"),
        attack(options={"steps": 20}, gradient="last-2"),
        attack(options={"steps": 20, "restarts": 2, "targets": 3}),
        attack("square", options={"queries": 200}),
    ]
    rows = pd.DataFrame([row for one in conditions for row in cell(one, ["a", "a"])])
    assert list(parsed(rows)["label"].unique()) == [
        "pgd-20",
        "pgd-20, ce",
        "pgd-20, l2",
        "pgd-20, on states",
        "pgd-20, last-2 gradient",
        "pgd-20 x 2, 3 targets",
        "square-200",
    ]


def test_networks_are_compared_over_the_attacks_that_both_went_through() -> None:
    ours = [
        *cell(attack(at=0), ["abc", "abcd"]),
        *cell(attack(at=1), ["abcd", "abc"]),
        *cell(attack(at=1, gradient="truncated"), ["", ""]),  # theirs had no such attack
        *cell(attack(at=1, source="base"), ["", ""]),
    ]
    theirs = [
        *cell(attack(at=0), ["ad", "ad"], has_dynamics=False),
        *cell(attack("fgsm", at=0), ["", ""], has_dynamics=False),
    ]
    found = compare_robustness(pd.DataFrame(ours), pd.DataFrame(theirs)).set_index("timestep")
    assert found["attacks"].tolist() == [1, 1]
    assert found.loc[1, ["n", "gained", "lost"]].tolist() == [4, 2, 1]
    assert found.loc[1, "difference"] == pytest.approx(0.25)
    assert found.loc[1, "low"] < 0.25 < found.loc[1, "high"]
    assert 0.5 < found.loc[1, "p"] <= 1
    assert compare_robustness(pd.DataFrame(ours[-8:]), pd.DataFrame(theirs)).empty
