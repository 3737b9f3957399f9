"""The believability report: passes a strong attack on an honest network, flags masks and weak attacks."""

import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from attacked import cell
from pcbench.harness.believe import believability_summary, robust_summary, robust_table
from pcbench.results.summary import accuracy_summary
from rich.console import Console
from synthetic import accuracy_of
from tiny_network import Tiny, evaluate, network, task
from torch import Tensor

from pcbench.analysis.believability import Check, Verdict, believability, doubts, overall, table
from pcbench.figures import style
from pcbench.figures.adversarial import CAPTIONS, adversarial_figures, drawings, heat_maps, mark, success_counts

IMAGES = "abcdefgh"
TABLES: list[dict[str, object]] = [
    {"kind": "clean"},
    {"kind": "attack-probe", "at": ["T"]},
    {"kind": "attack", "attack": "pgd-linf", "options": {"steps": 20}, "at": [0, "T"], "epsilons": [0.02, 0.03]},
    {"kind": "attack", "attack": "pgd-linf", "variant": "large", "options": {"steps": 10}, "epsilons": [0.2]},
    {"kind": "attack", "attack": "pgd-linf", "variant": "double", "options": {"steps": 40}, "epsilons": [0.03]},
    {"kind": "attack", "attack": "pgd-linf", "variant": "truncated", "gradient": "truncated", "epsilons": [0.03]},
    {"kind": "attack", "attack": "fgsm", "epsilons": [0.03]},
    {"kind": "attack", "attack": "square", "options": {"queries": 60}, "epsilons": [0.03]},
    {"kind": "noise-control", "noises": ["salt-and-pepper"], "epsilons": [0.03]},
]


def verdicts(records: pd.DataFrame) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in believability(records)}


def test_a_strong_attack_on_an_honest_network_is_believed() -> None:
    found = verdicts(evaluate(network(), TABLES, *task(32, seed=3)))
    not_run = {"white-box beats hard-label", "white-box beats transfer", "strongest white-box"}
    assert {name for name, verdict in found.items() if verdict == "not run"} == not_run
    assert {name for name, verdict in found.items() if verdict == "ok"} == set(found) - not_run


def test_a_masked_network_is_flagged() -> None:
    records = evaluate(network(masked=True), TABLES, *task(32, seed=3))
    found = verdicts(records)
    assert found["exact gradient"] == "failed"
    assert found["beats other timesteps"] in ("suspicious", "failed")
    assert overall(believability(records)) == "failed"


def test_a_network_that_hides_its_gradient_is_flagged_by_the_attacks_that_need_none() -> None:
    class Steps(Tiny):
        def rollout(self, x: Tensor, timesteps: int) -> Tensor:
            return super().rollout(x, timesteps).detach() + 0 * x.sum()

    model = Steps().eval()
    model.load_state_dict(network().state_dict())
    tables = [*TABLES[:2], {**TABLES[2], "epsilons": [0.05]}, TABLES[3]]
    tables += [{"kind": "attack", "attack": "square", "options": {"queries": 200}, "epsilons": [0.05]}]
    found = verdicts(evaluate(model, tables, *task(32, seed=3)))
    assert found["zero gradient"] == "failed"
    assert found["exact gradient"] == "failed"
    assert found["breaks all at a large epsilon"] == "failed"
    assert found["Square after white-box"] == "failed"
    assert found["white-box beats gradient-free"] == "failed"
    assert found["randomised"] == "ok"


PGD = cell("pgd-linf@t1", 0.02, ["abcdefgh", "abcd"], IMAGES)


@pytest.mark.parametrize(
    ("rows", "name", "verdict"),
    [
        (cell("fgsm@t1", 0.02, ["abcdefgh", "h"], IMAGES), "iterative beats single-step", "failed"),
        (cell("fgsm@t1", 0.02, ["abcdefgh", "gh"], IMAGES), "iterative beats single-step", "suspicious"),
        (cell("fgsm@t1", 0.02, ["abcdefgh", "fgh"], IMAGES), "iterative beats single-step", "ok"),
        (cell("fgsm@t1", 0.02, ["abcdefgh", "abcdefgh"], IMAGES), "iterative beats single-step", "ok"),
        (cell("pgd-linf+double@t1", 0.02, ["abcdefgh", "a"], IMAGES), "converged", "failed"),
        (cell("pgd-linf+double@t1", 0.02, ["abcdefgh", "abcd"], IMAGES), "converged", "ok"),
        (cell("autoattack@t1", 0.02, ["abcdefgh", ""], IMAGES), "strongest white-box", "failed"),
        (cell("autoattack@t1", 0.02, ["abcdefgh", "ab"], IMAGES), "strongest white-box", "suspicious"),
        (cell("autoattack@t1", 0.02, ["abcdefgh", "abcd"], IMAGES), "strongest white-box", "ok"),
        (cell("autoattack-l2@t1", 0.02, ["abcdefgh", ""], IMAGES), "strongest white-box", "not run"),
        (cell("pgd-linf@t1", 0.04, ["abcdefgh", "abcdefgh"], IMAGES), "monotone in epsilon", "failed"),
        (cell("pgd-linf@t1", 0.04, ["abcdefgh", ""], IMAGES), "monotone in epsilon", "ok"),
        (cell("pgd-linf@t1", 0.04, ["abcdefgh", ""], IMAGES), "breaks all at a large epsilon", "not run"),
        (cell("pgd-linf@t1", 0.2, ["abcdefgh", ""], IMAGES), "breaks all at a large epsilon", "ok"),
        (cell("pgd-linf@t1", 0.2, ["abcdefgh", "a"], IMAGES), "breaks all at a large epsilon", "suspicious"),
        (cell("pgd-linf@t1", 0.2, ["abcdefgh", "ab"], IMAGES), "breaks all at a large epsilon", "failed"),
        (cell("square@t1", 0.02, ["abcdefgh", "cdefgh"], IMAGES), "Square after white-box", "failed"),
        (cell("square@t1", 0.02, ["abcdefgh", "bcdefgh"], IMAGES), "Square after white-box", "suspicious"),
        (cell("square@t1", 0.02, ["abcdefgh", "abcdgh"], IMAGES), "Square after white-box", "ok"),
        (cell("hop-skip-jump@t1", 0.02, ["abcdefgh", ""], IMAGES), "white-box beats hard-label", "failed"),
        (cell("pgd-linf@t0", 0.02, ["abcdefgh", ""], IMAGES), "beats other timesteps", "failed"),
        (cell("pgd-linf+from:base@t0", 0.02, ["abcdefgh", ""], IMAGES), "white-box beats transfer", "failed"),
        (cell("noise-uniform-linf", 0.02, ["abcdefgh", ""], IMAGES, "noise"), "beats random noise", "failed"),
        (cell("noise-uniform-linf", 0.02, ["abcdefgh", "abcdefg"], IMAGES, "noise"), "beats random noise", "ok"),
        (cell("noise-uniform-l2", 0.02, ["abcdefgh", ""], IMAGES, "noise"), "beats random noise", "not run"),
        (cell("pgd-linf+truncated@t1", 0.02, ["abcdefgh", "abcdefgh"], IMAGES), "exact beats truncated", "ok"),
        (cell("pgd-linf+truncated@t1", 0.02, ["abcdefgh", ""], IMAGES), "exact beats truncated", "failed"),
    ],
)
def test_each_comparison_goes_the_right_way(rows: list[dict[str, object]], name: str, verdict: str) -> None:
    assert verdicts(pd.DataFrame([*PGD, *rows]))[name] == verdict


def test_the_report_says_by_how_much_the_truncation_flatters() -> None:
    rows = [*PGD, *cell("pgd-linf+truncated@t1", 0.02, ["abcdefgh", "abcdef"], IMAGES)]
    (check,) = [check for check in believability(pd.DataFrame(rows)) if check.name == "exact beats truncated"]
    assert check.figure.startswith("+25.0 (+2 of 8 images")


def test_what_was_not_run_is_said_and_a_suite_without_attacks_is_left_out() -> None:
    found = table(pd.DataFrame(PGD))
    assert set(found["verdict"]) == {"not run"}
    assert found["figure"].str.len().min() > 0
    assert table(pd.DataFrame(cell("clean", 0.0, ["abcd"], group="clean"))).empty


def test_images_that_nobody_attacked_are_told_from_attacks_that_are_missing() -> None:
    rows = [*PGD, *cell("fgsm@t1", 0.02, ["", ""], ""), *cell("pgd-linf+large@t1", 0.1, ["", ""], "")]
    found = {check.name: check.figure for check in believability(pd.DataFrame(rows))}
    for name in ("iterative beats single-step", "breaks all at a large epsilon"):
        assert found[name] == "no image was attacked: none was right before"
    assert found["white-box beats hard-label"] == "no hard-label attack in the suite"


def test_what_is_in_doubt_comes_with_advice() -> None:
    rows = pd.DataFrame([*PGD, *cell("square@t1", 0.02, ["abcdefgh", ""], IMAGES)])
    for check in believability(rows):
        assert bool(check.advice) == (check.verdict in ("suspicious", "failed")), check.name
    gradient = Check("exact gradient", "", "", "failed")
    assert "square, hop-skip-jump" in gradient.advice
    assert doubts(believability(rows)) == "failed: Square after white-box, white-box beats gradient-free"
    written = table(rows)
    assert list(written.loc[written["advice"] != "", "check"]) == [
        "Square after white-box",
        "white-box beats gradient-free",
    ]


def test_an_attack_is_not_compared_with_itself() -> None:
    transferred = cell("pgd-linf+from:base@t0", 0.02, ["abcdefgh", "abcd"], IMAGES)
    (check,) = [one for one in believability(pd.DataFrame(transferred)) if one.name == "white-box beats transfer"]
    assert (check.verdict, check.figure) == ("not run", "no white-box attack in the suite")


def test_every_check_has_advice() -> None:
    for check in believability(pd.DataFrame(PGD)):
        assert replace(check, verdict="failed").advice


def test_a_truncated_run_is_compared_with_the_exact_gradient() -> None:
    rows = [*PGD, *cell("pgd-linf+exact@t1", 0.02, ["abcdefgh", "ab"], IMAGES)]
    (check,) = [check for check in believability(pd.DataFrame(rows)) if check.name == "exact beats truncated"]
    assert check.figure.startswith("+25.0 (+2 of 8 images")


def test_tables_mark_attacks_in_doubt(tmp_path: Path) -> None:
    rows = [
        *PGD,
        *cell("square@t1", 0.02, ["abcdefgh", ""], IMAGES),
        *cell("clean", 0.0, [IMAGES] * 2, IMAGES, "clean"),
    ]
    records = pd.DataFrame(rows)
    together = robust_table(records)
    assert set(together["doubts"]) == {"failed: Square after white-box, white-box beats gradient-free"}
    console = Console(width=120)
    with console.capture() as said:
        console.print(robust_summary(together))
        console.print(believability_summary(table(records)))
    assert "upper bounds only, the attacks are in doubt: failed: Square after white-box" in said.get()
    assert "judge it by attacks that need no gradients" in " ".join(said.get().split())
    suite, model = str(records["suite"].iloc[0]), str(records["model"].iloc[0])
    accuracy = accuracy_of(records)
    with console.capture() as said:
        console.print(accuracy_summary(accuracy, {(suite, model)}))
    assert "pgd-linf@t1 0.02 (?)" in said.get()
    assert "clean (?)" not in said.get()
    with console.capture() as said:
        console.print(accuracy_summary(accuracy))
    assert "(?)" not in said.get()


def test_many_doubts_leave_room_for_the_panels(tmp_path: Path) -> None:
    records = evaluate(network(), TABLES[:3], *task(24, seed=3))
    checks = [replace(check, verdict="failed") for check in believability(records)]
    figure, data = success_counts(records)
    height = figure.get_figheight()
    mark(figure, checks)
    assert figure.get_figheight() > height
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        style.save(figure, data, tmp_path / "many", ("png",))


def test_nothing_is_drawn_of_a_main_attack_without_attacked_images() -> None:
    rows = [*cell("pgd-linf@t0", 0.02, ["abcd", "abcd"], ""), *cell("pgd-linf@t1", 0.02, ["abcd", "abcd"], "")]
    rows += [*cell("clean", 0.0, ["", ""], group="clean"), *cell("pgd-linf+from:base@t0", 0.02, ["", "a"], "abcd")]
    clean = pd.DataFrame(rows)
    clean.loc[(clean["group"] == "clean") & (clean["image"] == "a"), "correct"] = True
    assert set(drawings(clean)) == {"transfer", "attacks"}


def test_figures_are_drawn_and_a_doubted_attack_is_marked(tmp_path: Path) -> None:
    records = evaluate(network(masked=True), TABLES[:3], *task(24, seed=3))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a title that leaves no room for the panels
        files = adversarial_figures(records, tmp_path, "tiny")
    assert {file.name for file in files if file.suffix == ".png"} == {
        f"tiny-{name}.png" for name in ("matrix", "epsilons", "attacks", "successes", "relative")
    }
    assert all(file.stat().st_size > 0 for file in files)
    assert set(drawings(records)) <= set(CAPTIONS)
    figure, data = heat_maps(records, "pgd-linf")
    assert len(data) == 2 * 2 * 4
    before = figure.get_suptitle()
    mark(figure, believability(records))
    assert "in doubt, failed: exact gradient" in " ".join(figure.get_suptitle().split())
    honest, _ = heat_maps(records, "pgd-linf")
    mark(honest, [])
    assert honest.get_suptitle() == before
