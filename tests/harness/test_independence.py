"""Whatever the batch size, the engine, the workers, the order of models and conditions, and the interruptions."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clusters import OF_TWO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_run import EXACT, sweep

from pcbench.harness.progress import Progress

MODELS = ("tiny_models:tiny", "tiny_models:still")
TABLES = [
    'kind = "clean"',
    'kind = "noise"\nsigma = [0.5]',
    'kind = "corruption"\nnames = ["impulse_noise", "contrast"]\nseverities = [1, 3, 5]',
]
KEY = ["model", "perturbation", "severity", "image", "timestep"]


class Stop(Progress):
    def __init__(self, after: int) -> None:
        self.left = after

    def cell(self, finished: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def suite_of(folder: Path, order: list[int]) -> str:
    path = folder / f"suite-{''.join(map(str, order))}.toml"
    head = 'name = "s"\nversion = 1\ndescription = ""\n'
    path.write_text(head + "".join(f"[[perturbations]]\n{TABLES[i]}\n" for i in order))
    return str(path)


def by_key(records: pd.DataFrame) -> pd.DataFrame:
    return records.sort_values(KEY, ignore_index=True)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("reference")
    return by_key(sweep(folder / "run", suite_of(folder, [0, 1, 2]), MODELS, limit=9).records)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_two")
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 12),
    engines=st.lists(st.sampled_from(["local", "local", "ray"]), min_size=3, max_size=3),
    workers=st.sampled_from([0, 0, 2]),
    models=st.permutations(MODELS),
    order=st.permutations(range(len(TABLES))),
    stops=st.lists(st.integers(1, 4), max_size=2),
)
def test_records_depend_on_nothing_but_the_request(
    tmp_path_factory: pytest.TempPathFactory,
    reference: pd.DataFrame,
    batch: int,
    engines: list[str],
    workers: int,
    models: list[str],
    order: list[int],
    stops: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("run")
    suite = suite_of(folder, order)
    computed: list[dict[str, object]] = [OF_TWO if engine == "ray" else {"engine": "local"} for engine in engines]
    for after, how in zip(stops, computed, strict=False):
        with contextlib.suppress(KeyboardInterrupt):  # the last of several may find too little left to be stopped in
            sweep(folder / "run", suite, tuple(models), limit=9, batch_size=1 + after, progress=Stop(after), **how)
    how = {"batch_size": batch, "workers": workers, **computed[-1]}
    found = by_key(sweep(folder / "run", suite, tuple(models), limit=9, **how).records)
    pd.testing.assert_frame_equal(found[EXACT], reference[EXACT])
    for column in ("confidence", "nll"):  # a kernel may sum in another order for another batch size
        np.testing.assert_allclose(found[column], reference[column], rtol=1e-4, atol=1e-5)
