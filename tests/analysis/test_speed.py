from pathlib import Path

import pytest
from synthetic import Model, imagenet_c, make_run

from pcbench.analysis.derived import costs
from pcbench.analysis.speed import speed_of
from pcbench.results.study import Study, load_results


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load_results(make_run(tmp_path / "a", [Model("net", 2)], {"imagenet-c": imagenet_c(["fog"])}, n=10))


def test_accuracy_is_joined_with_what_it_costs(study: Study) -> None:
    table = speed_of(study).set_index("timestep")
    assert table["gmacs"].tolist() == [1, 2, 3]
    # the synthetic model takes 0.03 s an image for its three answers; stopping at t costs its share of the MACs
    assert table["images_per_second"].tolist() == pytest.approx([3 / 0.03, 3 / 2 / 0.03, 1 / 0.03])
    assert table.loc[2, "accuracy"] == pytest.approx(study.accuracy.query("timestep == 2")["accuracy"].mean())


def test_costs_that_a_stranger_made_up_are_left_out(study: Study) -> None:
    for wrong in ([1.0], ["a", "b", "c"], None, {"x": 1}):
        for cell in study.cells:
            cell.provenance["model"]["gmacs"] = wrong
        assert costs(study).empty
        assert speed_of(study).empty
