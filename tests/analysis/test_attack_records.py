"""What is read off the records of attacks, against sums done by hand."""

import pandas as pd
import pytest
from attacked import cell
from pcbench.harness.believe import robust_summary, robust_table
from rich.console import Console

from pcbench.analysis.attacks import (
    WORST,
    main_attack,
    matrix,
    over_time,
    robust_accuracy,
    successes,
    worst_cases,
)
from pcbench.analysis.attacks import attack_records as parsed


@pytest.fixture
def records() -> pd.DataFrame:
    rows = [
        *cell("clean", 0.0, ["abc", "abcd"], group="clean"),
        *cell("pgd-linf@t0", 0.1, ["a", "abcd"], "abc"),
        *cell("pgd-linf@t1", 0.1, ["abc", "ab"]),
        *cell("pgd-linf@t0", 0.2, ["", "ab"], "abc"),
        *cell("pgd-linf@t1", 0.2, ["a", "a"]),
        *cell("fgsm@t1", 0.1, ["abc", "bcd"]),
        *cell("pgd-linf+from:base@t0", 0.1, ["ab", "abc"]),
        *cell("pgd-l2@t1", 0.1, ["abc", "c"]),
    ]
    return pd.DataFrame(rows)


def test_the_matrix_counts_the_attacked_images_at_every_timestep(records: pd.DataFrame) -> None:
    found = matrix(records, "pgd-linf", 0.1).set_index(["at", "timestep"])
    assert found["correct"].to_dict() == {(0, 0): 1, (0, 1): 3, (1, 0): 3, (1, 1): 2}
    assert found["n"].to_dict() == {(0, 0): 3, (0, 1): 3, (1, 0): 4, (1, 1): 4}
    assert found.loc[(0, 0), "accuracy"] == pytest.approx(1 / 3)


def test_robust_accuracy_names_its_denominator(records: pd.DataFrame) -> None:
    found = robust_accuracy(records).set_index(["label", "norm", "epsilon", "timestep"])
    row = found.loc[("pgd-linf", "linf", 0.1, 0)]
    assert (row["n"], row["correct"], row["n_clean"], row["robust_of_clean"]) == (4, 1, 3, pytest.approx(1 / 3))
    assert row["robust"] == 0.25
    assert ("fgsm", "linf", 0.1, 0) not in found.index
    assert ("pgd-linf+from:base", "linf", 0.1, 1) in found.index


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
        ["l2", 0.1, 1, "pgd-l2", 1],
        ["linf", 0.1, 0, WORST, 1],
        ["linf", 0.1, 1, WORST, 1],
        ["linf", 0.2, 0, WORST, 0],
        ["linf", 0.2, 1, WORST, 1],
    ]


def test_the_terminal_names_both_denominators_with_their_intervals(records: pd.DataFrame) -> None:
    console = Console(width=200)
    with console.capture() as said:
        console.print(robust_summary(robust_table(records)))
    (line,) = [line for line in said.get().splitlines() if line.split()[:4] == ["linf", "0.1", "0", "4"]]
    # a alone of four images survives at t = 0, and of the three that are right without attack
    assert "25.0 [4.6, 69.9] of 4" in line
    assert "33.3 [6.1, 79.2] of 3" in line


def test_curves_have_each_timestep_under_its_own_attack_and_the_clean_line(records: pd.DataFrame) -> None:
    found = over_time(records, "pgd-linf").set_index(["epsilon", "timestep"])["correct"].to_dict()
    assert found == {(0.0, 0): 3, (0.0, 1): 4, (0.1, 0): 1, (0.1, 1): 2, (0.2, 0): 0, (0.2, 1): 1}


def test_successes_are_shifted_so_that_the_feedforward_rate_is_one(records: pd.DataFrame) -> None:
    found = successes(records, "pgd-linf").set_index(["epsilon", "timestep"])
    assert found["successes"].to_dict() == {(0.1, 0): 2, (0.1, 1): 2, (0.2, 0): 3, (0.2, 1): 3}
    assert found.loc[(0.1, 1), "relative"] == pytest.approx(2 / 4 - 2 / 3 + 1)
    assert found.loc[(0.2, 0), "relative"] == 1


def test_the_main_attack_has_the_most_conditions(records: pd.DataFrame) -> None:
    assert main_attack(parsed(records)) == "pgd-linf"
    assert main_attack(parsed(records[records["group"] == "clean"])) is None


def test_a_suite_without_attacks_has_empty_tables(records: pd.DataFrame) -> None:
    clean = records[records["group"] == "clean"]
    assert robust_accuracy(clean).empty
    assert matrix(clean, "pgd-linf", 0.1).empty
