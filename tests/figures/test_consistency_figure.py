"""The matrix of error consistency: its numbers are kappa's, and a network agrees with itself at one timestep wholly."""

from pathlib import Path

import numpy as np
import pytest
from synthetic import Model, make_run

from pcbench.analysis.answers import answers
from pcbench.figures import style
from pcbench.figures.consistency import consistency_figure
from pcbench.results.study import load_results

SUITE = [("clean", "clean", 0.0), ("fog", "weather", 3.0), ("snow", "weather", 3.0)]


def test_the_matrix_is_over_all_pairs_of_timesteps_without_clean_images(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [Model("one", 2), Model("other", 1)], {"s": SUITE}, n=80)
    first, second = (answers(load_results(run).select(model=name)) for name in ("one", "other"))
    figure, table = consistency_figure(first, second)
    assert len(table) == 6
    a, b = first.values[1:, :, 2], second.values[1:, :, 1]
    kappas = []
    for x, y in zip(a, b, strict=True):
        chance = x.mean() * y.mean() + (1 - x.mean()) * (1 - y.mean())
        kappas.append(((x == y).mean() - chance) / (1 - chance))
    row = table[(table["t"] == 2) & (table["t_other"] == 1)].iloc[0]
    assert row["kappa"] == pytest.approx(np.mean(kappas))
    assert row["low"] <= row["kappa"] <= row["high"]
    own = consistency_figure(first, first)[1]
    assert own.loc[own["t"] == own["t_other"], "kappa"].tolist() == pytest.approx([1, 1, 1])
    with style.style():
        style.save(figure, table, tmp_path / "figure", ("png",))
    assert "2 perturbations, severity 3, made, 80 images" in " ".join(figure.get_suptitle().split())


def test_a_condition_without_kappa_leaves_the_others_their_mean(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", [Model("one", 2), Model("other", 1)], {"s": SUITE}, n=80)
    first, second = (answers(load_results(run).select(model=name)) for name in ("one", "other"))
    usual = consistency_figure(first, second)[1]
    for each in (first, second):
        each.values[2] = 0  # as at noise so strong that nobody is ever right
    figure, table = consistency_figure(first, second)
    assert usual["conditions"].unique().tolist() == [2]
    assert table["conditions"].unique().tolist() == [1]
    assert table["kappa"].notna().all()
    assert "κ is defined in 1 of 2 conditions" in " ".join(figure.get_suptitle().split())
    for each in (first, second):
        each.values[1] = 0
    assert consistency_figure(first, second)[1]["kappa"].isna().all()
