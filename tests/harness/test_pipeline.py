"""Images on their way to the model."""

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from pcbench.harness.images import Prepared
from pcbench.harness.pipeline import Pipeline, Task
from pcbench.keys import Condition
from pcbench.perturbations.base import Perturbation


class Negative(Perturbation):
    @classmethod
    def conditions(cls, suite: str, table: object) -> list[Condition]:
        return []

    def on_uint8(self, images: Tensor, ids: list[str], seed: int) -> Tensor:
        return 255 - images


@pytest.fixture
def source(tmp_path: Path) -> Prepared:
    images = np.random.default_rng(0).integers(0, 256, (23, 6, 5, 3)).astype(np.uint8)
    images.tofile(tmp_path / "images.u8")
    return Prepared(tmp_path / "images.u8", images.shape)


def tasks(source: Prepared) -> list[Task]:
    negative = Negative(Condition("negative", "negative", "g", 1.0))
    rows = [tuple(range(start, min(start + 4, 23))) for start in range(0, 23, 4)]
    # in turn without work for a process, with one perturbation and with two: that must not change the order
    return [Task(source, r, tuple(map(str, r)), (negative,) * (i % 3), 0, r) for i, r in enumerate(rows)]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_whole_and_in_order(source: Prepared, tmp_path: Path, workers: int) -> None:
    with Pipeline(workers, tmp_path) as pipeline:
        found = list(pipeline.stream(tasks(source)))
    everything = source.read(range(23))
    assert [task.tag for task, _, _ in found] == [task.tag for task in tasks(source)]
    for index, (task, made, _) in enumerate(found):
        expected = everything[list(task.tag)]
        assert len(made) == max(1, index % 3)
        for images in made:
            np.testing.assert_array_equal(images, 255 - expected if index % 3 else expected)


def test_images_that_nothing_is_done_to_start_no_process(source: Prepared, tmp_path: Path) -> None:
    with Pipeline(2, tmp_path) as pipeline:
        assert len(list(pipeline.stream(tasks(source)[::3]))) == 2
        assert pipeline._pool is None
        assert pipeline._pool is None
