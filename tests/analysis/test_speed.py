from pathlib import Path

import pytest
from synthetic import Model, imagenet_c, make_run

from pcbench.analysis.speed import speed_of
from pcbench.results.load import load_results

COSTS = "model,weights,timestep,gmacs\nnet,synthetic,0,1\nnet,synthetic,1,3\nnet,synthetic,2,5\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "a", [Model("net", 2)], {"imagenet-c": imagenet_c(["fog"])}, n=10)


def test_accuracy_is_joined_with_what_it_costs(run: Path) -> None:
    (run / "cost.csv").write_text(COSTS)
    loaded = load_results(run).runs[0]
    table = speed_of(loaded).set_index("timestep")
    assert table["gmacs"].tolist() == [1, 3, 5]
    # the synthetic model takes 0.03 s an image for its three answers; stopping at t costs its share of the MACs
    assert table["images_per_second"].tolist() == pytest.approx([5 / 0.03, 5 / 3 / 0.03, 1 / 0.03])
    assert table.loc[2, "accuracy"] == pytest.approx(loaded.accuracy.query("timestep == 2")["accuracy"].mean())


def test_a_single_answer_can_be_cheaper_than_the_run_that_gave_all(run: Path) -> None:
    lines = [f"net,synthetic,{t},1,{t + 1}" for t in range(3)]
    (run / "cost.csv").write_text("\n".join(["model,weights,timestep,gmacs,gmacs_unrolled", *lines]))
    table = speed_of(load_results(run).runs[0])
    assert table["gmacs"].tolist() == [1, 1, 1]
    assert table["images_per_second"].tolist() == pytest.approx([3 / 0.03] * 3)


def test_without_costs_there_is_no_curve_and_damaged_costs_are_named(run: Path) -> None:
    loaded = load_results(run).runs[0]
    assert speed_of(loaded).empty
    (run / "cost.csv").write_text("model,weights\nnet\n")
    assert speed_of(loaded).empty
    assert "cost.csv is damaged" in loaded.problems[0]
