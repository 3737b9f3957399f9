"""Conditions that have work in common are prepared together; nothing else is different from doing them one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_run import same, sweep

from pcbench.config import RunConfig
from pcbench.data.geometry import Geometry
from pcbench.harness import local
from pcbench.harness.evaluate import Glance
from pcbench.harness.images import Prepared
from pcbench.harness.plan import Cell, Group, divide, make_plan
from pcbench.harness.progress import Progress
from pcbench.keys import Condition
from pcbench.perturbations.base import Perturbation
from pcbench.perturbations.corruption import Corruption

MODELS = ("tiny_models:tiny", "tiny_models:still")


def group(name: str, severities: int, models: int = 1) -> Group:
    conditions = [Condition("corruption", name, "g", float(severity)) for severity in range(severities)]
    pairs = [(condition, model) for condition in conditions for model in range(models)]
    cells = [Cell(model, one, 0, "predictions") for one, model in pairs]
    return Group(Geometry((32, 32)), tuple(cells))


def shape(groups: list[Group]) -> list[tuple[str, list[float]]]:
    return [(each.conditions[0].perturbation, [one.severity for one in each.conditions]) for each in groups]


def test_severities_of_a_corruption_are_a_group_and_others_are_alone(suite: str) -> None:
    plan = make_plan(RunConfig.of(model=MODELS, suite=suite), torch.device("cpu"))
    groups = plan.groups(plan.cells)
    noise = "gaussian-noise"
    both = [("contrast", [1.0, 3.0]), ("impulse_noise", [1.0, 3.0])]
    assert shape(groups) == [("clean", [0.0]), (noise, [0.5]), (noise, [2.0]), *both]
    assert [len(each.cells) for each in groups] == [2, 2, 2, 4, 4]
    left = [cell for cell in plan.cells if cell.condition.severity != 1]
    assert shape(plan.groups(left))[3:] == [("contrast", [3.0]), ("impulse_noise", [3.0])]


def test_what_is_made_in_another_way_is_another_group() -> None:
    ways = [{"severities": [1]}, {"severities": [2]}, {"severities": [3], "jpeg85": True}]
    conditions = [Corruption.conditions("s", {"names": ["fog"], **way})[0] for way in ways]
    one, same_way, other = (Corruption.family(condition) for condition in conditions)
    assert one == same_way != other


@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 2)), max_size=8),
    workers=st.integers(1, 6),
)
def test_divided_groups_are_enough_for_the_workers_and_lose_nothing(sizes: list[tuple[int, int]], workers: int) -> None:
    groups = [group(f"c{index}", count, models) for index, (count, models) in enumerate(sizes)]
    parts = divide(groups, workers)
    made, asked = ([cell for one in several for cell in one.cells] for several in (parts, groups))
    assert set(made) == set(asked)
    assert len(made) == len(asked)
    assert len(parts) >= 4 * workers or all(len(part.conditions) == 1 for part in parts)
    if len(groups) >= 4 * workers:
        assert parts == groups
    for part in parts:  # a condition's models stay together: they share its images
        whole = next(one for one in groups if part.cells[0] in one.cells)
        assert part.cells == tuple(cell for cell in whole.cells if cell.condition in part.conditions)


def test_groups_are_divided_no_further_than_needed() -> None:
    imagenet_c = [group(f"c{index}", 5) for index in range(15)]
    assert [len(divide(imagenet_c, workers)) for workers in (1, 3, 4, 8, 11, 12, 64)] == [15, 15, 30, 45, 45, 75, 75]


class Seen(Progress):
    def __init__(self) -> None:
        self.order: list[tuple[str, float, int]] = []

    def batch(self, glance: Glance, images: int) -> None:
        self.order.append((glance.condition.perturbation, glance.condition.severity, glance.images))


def test_batches_are_the_outer_loop_and_images_are_read_once_for_all_severities(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, read, seen = [], Prepared.read, Seen()

    def count(self: Prepared, rows: tuple[int, ...]) -> object:
        reads.append(len(rows))
        return read(self, rows)

    monkeypatch.setattr("pcbench.harness.run.describe", lambda *arguments: ({}, []))  # it reads some images, too
    monkeypatch.setattr(Prepared, "read", count)
    sweep(tmp_path / "run", suite, progress=seen)
    assert reads == [7, 7, 6] * 5
    assert [each for each in seen.order if each[0] == "contrast"] == [
        ("contrast", severity, done) for done in (7, 14, 20) for severity in (1.0, 3.0)
    ]


def test_together_they_give_what_they_give_one_by_one(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = sweep(tmp_path / "together", suite, MODELS)
    with monkeypatch.context() as patch:
        patch.setattr(local, "_PORTION", 2 * 3 * 32 * 32 * 3)  # three images of two severities
        same(sweep(tmp_path / "portions", suite, MODELS), together)
    monkeypatch.setattr(Corruption, "family", classmethod(lambda kind, condition: None))
    monkeypatch.setattr(Corruption, "all_on_uint8", Perturbation.all_on_uint8)
    monkeypatch.setattr(Corruption, "on_uint8", alone)
    same(sweep(tmp_path / "alone", suite, MODELS), together)


def alone(self: Corruption, images: torch.Tensor, ids: list[str], seed: int) -> torch.Tensor:
    from pcbench.perturbations.corruptions import corrupt

    return corrupt(images, self.condition.perturbation, int(self.condition.severity), seed=seed, ids=ids)


def test_only_what_is_missing_is_made_when_a_run_goes_on(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = sweep(tmp_path / "run", suite)
    next((tmp_path / "run" / "records").glob("*contrast-3_*")).unlink()
    made, work = [], Corruption.all_on_uint8

    def count(perturbations: list[Perturbation], *more: object) -> object:
        made.append([(each.condition.perturbation, each.condition.severity) for each in perturbations])
        return work(perturbations, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Corruption, "all_on_uint8", count)
    same(sweep(tmp_path / "run", suite), undisturbed)
    assert made == [[("contrast", 3.0)]] * 3


@pytest.mark.parametrize(("conditions", "size", "expected"), [(1, 256, [256]), (5, 256, [52, 52, 52, 52, 48])])
def test_portions_bound_what_a_worker_makes_at_once(conditions: int, size: int, expected: list[int]) -> None:
    large = Group(Geometry((224, 224)), group("fog", conditions).cells)
    portions = local._portions(range(10, 10 + size), large)
    assert [len(rows) for rows in portions] == expected
    np.testing.assert_array_equal(np.concatenate([list(rows) for rows in portions]), np.arange(10, 10 + size))
    assert [len(rows) for rows in local._portions(range(3), Group(Geometry((9000, 9000)), large.cells))] == [1, 1, 1]
