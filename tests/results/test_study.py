"""A study: cells selected by their keys, from one directory or many, and the tables that they make."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import Model, gaussian_noise, imagenet_c, make_run, standard_models

from pcbench.errors import UserError
from pcbench.results.cell import read_cell, reduced
from pcbench.results.directory import Directory
from pcbench.results.study import labels, load_results

SUITES = {"noise": gaussian_noise()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", standard_models(2), SUITES, n=10)


def test_accuracy_is_what_counting_gives(directory: Path) -> None:
    study = load_results(directory)
    assert len(study.accuracy) == 6 * (3 + 3)  # the network without dynamics stands at every timestep, too
    records = study.records
    for row in study.accuracy.itertuples():
        count = correct = 0
        for record in records.itertuples():
            if (record.model, record.severity, record.timestep) == (row.model, row.severity, row.timestep):
                count += 1
                correct += int(record.prediction == record.label)
        assert (row.n, row.correct) == (count, correct)
        assert row.accuracy == correct / count
        assert 0 <= row.ci_low <= row.accuracy <= row.ci_high <= 1


def test_a_merge_in_pandas_drops_no_network(directory: Path) -> None:
    accuracy = load_results(directory).accuracy
    dynamic, static = (accuracy[accuracy["model"] == name] for name in ("dynamic", "static"))
    both = dynamic.merge(static, on=["suite", "perturbation", "severity", "timestep"])
    assert len(both) == len(dynamic) == 6 * 3
    assert not static["has_dynamics"].any()


def test_cells_are_selected_by_their_keys(directory: Path) -> None:
    study = load_results(directory)
    assert len(study.select(model="dynamic").cells) == 6
    assert len(study.select(severity=[0.5, 1.0], has_dynamics=False).cells) == 2
    assert study.one(model="static", severity=0.25).key.condition.severity == 0.25
    assert (
        load_results(directory, model="static", severity=0.25).cells
        == study.select(model="static", severity=0.25).cells
    )
    with pytest.raises(UserError, match=r"no cell has model 'dynamc'.*dynamic"):
        study.select(model="dynamc")
    with pytest.raises(UserError, match=r"cells have no 'modl'.*model"):
        study.select(modl="dynamic")


def test_an_ambiguous_selection_raises_and_names_the_candidates(tmp_path: Path) -> None:
    for weights in ("wa", "wb"):
        make_run(tmp_path / weights, standard_models(1, weights), SUITES, n=4)
    study = load_results(tmp_path)
    with pytest.raises(UserError, match=r"2 cells match: .*\[wa\].*\[wb\].*say which"):
        study.one(model="dynamic", severity=0.5)
    with pytest.raises(UserError, match=r"2 match: dynamic \[wa\]; dynamic \[wb\]; say which"):
        study.system(model="dynamic")
    assert study.system(model="dynamic", weights="wa").model.weights == "wa"


def test_labels_tell_systems_apart_by_what_differs_and_by_no_more(tmp_path: Path) -> None:
    make_run(tmp_path / "a", [Model("net", 2), Model("net", 4), Model("other")], SUITES, n=4)
    make_run(tmp_path / "b", [Model("net", 2)], SUITES, n=4, seed=1, fingerprint="x")
    make_run(tmp_path / "c", [Model("net", 2)], SUITES, n=4, dtype="bfloat16")
    names = list(labels(load_results(tmp_path).systems()).values())
    assert len(set(names)) == 5
    assert "other" in names
    assert any("T = 4" in name for name in names)
    assert any("bfloat16" in name for name in names)


def test_a_damaged_file_is_named_and_the_rest_is_loaded(directory: Path) -> None:
    files = sorted((directory / "records").iterdir())
    files[0].write_bytes(b"not parquet")
    files[1].unlink()
    study = load_results(directory)
    assert len(study.cells) == 10
    assert study.missing == 2
    assert [files[0].name in problem for problem in study.problems] == [True]
    assert study.status_of(study.requests[0]) == "unfinished"


def test_a_cell_in_several_places_counts_once_and_clashing_ones_not_at_all(tmp_path: Path, directory: Path) -> None:
    shutil.copytree(directory, tmp_path / "copy")
    assert len(load_results(tmp_path).cells) == 12
    victim = sorted((tmp_path / "copy" / "records").iterdir())[0]
    cell = read_cell(victim)
    with Directory(tmp_path / "copy") as target:
        from pcbench.results.cell import Answers

        said = Answers(
            [str(i) for i in range(10)],
            np.zeros(10, int),
            {"prediction": np.zeros((cell.key.timesteps + 1, 10), int)},
        )
        target.add(cell.key, said, {}, {})
    study = load_results(tmp_path)
    assert len(study.cells) == 11
    assert any("are the same cell with other records; neither is used" in line for line in study.problems)


def test_answers_alone_give_the_same_accuracies(tmp_path: Path, directory: Path) -> None:
    whole = load_results(directory)
    small = tmp_path / "small"
    shutil.copytree(directory, small)
    for path in (small / "records").iterdir():
        content = reduced(read_cell(path))
        path.write_bytes(content)
    study = load_results(small)
    pd.testing.assert_frame_equal(study.accuracy, whole.accuracy)
    assert study.records.empty
    assert any("published with its answers alone" in line for line in study.problems)
    both = load_results(small, directory)  # the whole records are taken where they are
    assert len(both.records) == len(whole.records)


def test_links_are_not_followed(tmp_path: Path, directory: Path) -> None:
    link = tmp_path / "stranger"
    (link / "records").mkdir(parents=True)
    for path in (directory / "records").iterdir():
        (link / "records" / path.name).symlink_to(path)
    (link / "run.json").symlink_to(directory / "run.json")
    with pytest.raises(UserError):
        load_results(link)
    with pytest.raises(UserError, match="has a link inside"), Directory(link):
        pass
    (link / "run.json").unlink()
    shutil.rmtree(link / "records")
    (link / "records").symlink_to(directory / "records")
    with pytest.raises(UserError, match="no results in"):
        load_results(link)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "has schema 99"),
        ({"unheard": 1}, "is damaged: unheard"),
        ({"requests": 3}, "is damaged: requests"),
    ],
)
def test_a_strange_run_json_is_named_and_cells_are_loaded_without_it(
    directory: Path, change: dict[str, object], message: str
) -> None:
    info = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**info, **change}))
    study = load_results(directory)
    assert message in study.problems[0]
    assert len(study.cells) == 12
    with pytest.raises(UserError, match=message):
        Directory.check(directory)


def test_no_results_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results in"):
        load_results(tmp_path)
    with pytest.raises(UserError, match="no directory"):
        load_results(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        load_results(tmp_path / "file")


def test_memory_does_not_grow_with_the_number_of_cells(tmp_path: Path) -> None:
    """A study of four times as many cells takes no more memory to read: one cell at a time."""
    import tracemalloc

    peaks = []
    for count in (1, 4):
        names = ["fog", "snow", "frost", "contrast"][:count]
        run = make_run(tmp_path / str(count), [Model("net", 4)], {"s": imagenet_c(names)}, n=3_000)
        tracemalloc.start()
        study = load_results(run)
        for cell in study.cells:
            cell.counts()
            cell.matrix("confidence")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    packed = 15 * 3_000 * 5 / 8  # the answers of the further cells, a bit each, may be kept
    assert peaks[1] < peaks[0] + 4 * packed + 2_000_000
