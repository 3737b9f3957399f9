"""The believability report: passes a strong attack on an honest network, flags masks and weak attacks."""

from pathlib import Path

import pandas as pd
import pytest
from test_attack_records import cell
from tiny_network import Tiny, evaluate, network, task
from torch import Tensor

from pcbench.analysis.believability import Verdict, believability, overall, table

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
    not_run = {"white-box beats hard-label", "white-box beats transfer"}
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


def test_figures_are_drawn_and_a_doubted_attack_is_marked(tmp_path: Path) -> None:
    from pcbench.figures.adversarial import adversarial_figures, heat_maps, mark

    records = evaluate(network(masked=True), TABLES[:3], *task(24, seed=3))
    files = adversarial_figures(records, tmp_path, "tiny")
    assert {file.name for file in files if file.suffix == ".png"} == {
        f"tiny-{name}.png" for name in ("matrix", "epsilons", "attacks", "successes", "relative")
    }
    assert all(file.stat().st_size > 0 for file in files)
    figure, data = heat_maps(records, "pgd-linf")
    assert len(data) == 2 * 2 * 4
    before = figure.get_suptitle()
    mark(figure, believability(records))
    assert "attack in doubt — failed: exact gradient" in " ".join(figure.get_suptitle().split())
    honest, _ = heat_maps(records, "pgd-linf")
    mark(honest, [])
    assert honest.get_suptitle() == before
