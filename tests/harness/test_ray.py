"""The engine for many processes: the same bytes as the local one, whatever happens to its workers."""

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from children import start
from clusters import OF_TWO
from test_run import Interrupt, contents, sweep

from pcbench.cli.app import main
from pcbench.errors import RunError, UserError
from pcbench.harness.progress import Progress
from pcbench.harness.ray_cluster import Cluster, Crew, crew_of
from pcbench.results.requests import read_requests


def assert_same_bytes(one: Path, other: Path) -> None:
    assert (one / "accuracy.csv").read_bytes() == (other / "accuracy.csv").read_bytes()
    assert contents(one)
    assert contents(one) == contents(other)


def workers(family: Sequence[psutil.Process], doing: str = "") -> list[psutil.Process]:
    """Those of a family of processes, by the title that Ray gives them: "ray::Worker", and the method that runs."""
    found = []
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [one] if f"ray::Worker{doing}" in " ".join(one.cmdline()) else []
    return found


class Kills(Progress):
    """Kills a worker in the middle of a cell."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.seen = 0
        self.killed = 0

    def batch(self, glance: object, images: int) -> None:
        self.seen += images
        if not self.killed and self.seen > 7:
            for worker in workers(psutil.Process().children(recursive=True), ".evaluate")[:1]:
                worker.kill()
                self.killed = worker.pid

    def notice(self, text: str) -> None:
        self.notices.append(text)


MODELS = ("tiny_models:slow", "tiny_models:still")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_two")
def test_two_workers_give_the_bytes_of_the_local_engine(tmp_path: Path, suite: str) -> None:
    sweep(tmp_path / "local", suite, MODELS)
    result = sweep(tmp_path / "ray", suite, MODELS, **OF_TWO, workers=1)
    assert_same_bytes(tmp_path / "ray", tmp_path / "local")
    compute = read_requests(tmp_path / "ray").requests[0].compute
    assert (compute["engine"], compute["ray_workers"]) == ("ray", 2)
    assert result.study.cells[0].provenance["compute"]["engine"] == "ray"
    lines = [json.loads(line) for line in (tmp_path / "ray" / "progress.jsonl").read_text().splitlines()]
    assert [line["done"] for line in lines if line["event"] == "cell"] == list(range(1, 15))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_two")
def test_a_killed_worker_is_replaced_and_the_bytes_are_the_same(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcbench.harness.plan._FOR_EACH", 1)  # groups of several conditions, of which some are done
    kills = Kills()
    sweep(tmp_path / "ray", suite, "tiny_models:slow", **OF_TWO, progress=kills, batch_size=3)
    assert kills.killed
    assert not psutil.pid_exists(kills.killed)
    assert any("a Ray worker was lost at" in line for line in kills.notices)
    assert kills.seen == 7 * 20, "progress counts images that were lost"
    sweep(tmp_path / "local", suite, "tiny_models:slow", batch_size=3)
    assert_same_bytes(tmp_path / "ray", tmp_path / "local")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_two")
def test_workers_of_other_machines_get_the_images_through_ray(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere:
        def get_node_id(self) -> str:
            return "another machine"

    def far(*arguments: Any) -> Crew:
        return replace(crew_of(*arguments), far=True)

    with monkeypatch.context() as patch:
        patch.setattr("pcbench.harness.ray_cluster.crew_of", far)
        patch.setattr("ray.get_runtime_context", Elsewhere)
        patch.setattr("pcbench.harness.ray_worker._PIECE", 6 * 32 * 32 * 3)  # batches of 7 span pieces of 6
        sweep(tmp_path / "ray", suite, **OF_TWO, workers=1)
    sweep(tmp_path / "local", suite)
    assert_same_bytes(tmp_path / "ray", tmp_path / "local")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_two")
@pytest.mark.parametrize(("first", "then"), [("local", "ray"), ("ray", "local")])
def test_either_engine_goes_on_with_a_run_of_the_other(tmp_path: Path, suite: str, first: str, then: str) -> None:
    engines = {"local": {}, "ray": OF_TWO}
    with pytest.raises(KeyboardInterrupt, match="3 of 7 cells"):
        sweep(tmp_path / "run", suite, progress=Interrupt(3), **engines[first])
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "records").iterdir()}
    assert len(files) == 3
    sweep(tmp_path / "run", suite, **engines[then])
    assert all(path.stat().st_mtime_ns == written for path, written in files.items()), "a finished cell was redone"
    sweep(tmp_path / "undisturbed", suite)
    assert_same_bytes(tmp_path / "run", tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_two")
def test_a_cell_that_kills_its_workers_is_named_after_a_bounded_number_of_them(tmp_path: Path, suite: str) -> None:
    says = "Ray workers keep dying at clean .*; what was finished is kept"
    one = {"ray_workers": 1, "cpus_per_worker": 0.5}
    with pytest.raises(RunError, match=says):
        sweep(tmp_path / "run", suite, "tiny_models:deadly", engine="ray", **one)
    assert read_requests(tmp_path / "run").requests[0].status == "failed"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_two")
def test_failures_of_a_model_and_lack_of_memory_are_as_on_the_local_engine(tmp_path: Path, suite: str) -> None:
    with pytest.raises(RunError, match=r"tiny_models:explodes gives logits that are not finite at t = 1"):
        sweep(tmp_path / "explodes", suite, "tiny_models:explodes", **OF_TWO)
    sweep(tmp_path / "ray", suite, "tiny_models:greedy", **OF_TWO)
    sweep(tmp_path / "local", suite, "tiny_models:greedy")
    assert_same_bytes(tmp_path / "ray", tmp_path / "local")


@pytest.mark.slow
def test_a_run_starts_and_stops_its_own_ray_and_ctrl_c_stops_it(tmp_path: Path, suite: str) -> None:
    words = ["run", "--model", "tiny_models:slow", "--suite", suite, "--data", "samples", "--no-figures", "--quiet"]
    words += ["--batch-size", "1", "--output", str(tmp_path / "run")]  # long enough for a second worker to start
    with_ray = ["--engine", "ray", "--ray-workers", "2", "--cpus-per-worker", "0.5"]
    process = start([*words, *with_ray], tmp_path / "said")
    assert process.pid is not None
    family: list[psutil.Process] = []
    # The second worker may start after the first has finished a cell.
    while process.is_alive() and (len(workers(family)) < 2 or not list((tmp_path / "run/records").glob("*.parquet"))):
        process.join(0.05)
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
    assert len(workers(family)) == 2
    psutil.Process(process.pid).send_signal(2)
    process.join()
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 130, said
    assert "go on with: pcbench run" in said
    assert "--engine ray --ray-workers 2 --cpus-per-worker 0.5" in said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    again = start(words, tmp_path / "said")
    again.join()
    assert again.exitcode == 0
    sweep(tmp_path / "undisturbed", suite, "tiny_models:slow", batch_size=1)
    assert_same_bytes(tmp_path / "run", tmp_path / "undisturbed")


@pytest.fixture
def refused(tmp_path: Path, suite: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def command(*words: str) -> str:
        output = tmp_path / "run"
        with pytest.raises(SystemExit) as end:
            main(["run", "--model", "tiny_models:tiny", "--suite", suite, "--output", str(output), *words])
        assert end.value.code == 2
        assert not output.exists()
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        return lines[0]

    return command


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gpus-per-worker", "-0.5"], "--gpus-per-worker is -0.5"),
        (["--gpus-per-worker", "2"], "at most 1"),
        (["--gpus-per-worker", "0.5", "--device", "cpu"], "this run is on the CPU"),
        (["--gpus-per-worker", "nan"], "--gpus-per-worker is nan"),
        (["--cpus-per-worker", "0"], "--cpus-per-worker is 0"),
        (["--cpus-per-worker", "inf"], "--cpus-per-worker is inf"),
        (["--ray-workers", "0"], "ray_workers is 0"),
        (["--ray-address", "ray://head:10001"], "HOST:PORT"),
    ],
)
def test_bad_options_are_one_line(refused: Callable[..., str], words: list[str], says: str) -> None:
    assert says in refused("--engine", "ray", *words)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:x"])
def test_an_address_without_a_cluster_is_refused(
    refused: Callable[..., str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # whatever tests before this one left
    words = ["--engine", "ray", "--ray-address", address, "--data", "samples", "--quiet"]
    assert f"no Ray cluster at '{address}'" in refused(*words)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_of_two")
def test_an_address_is_refused_within_another_connection(tmp_path: Path, suite: str) -> None:
    with pytest.raises(UserError, match="connected to Ray already; leave out the address 'head:6379'"):
        sweep(tmp_path / "run", suite, engine="ray", ray_address="head:6379")


@pytest.mark.parametrize("option", ["--ray-address=auto", "--ray-workers=2", "--cpus-per-worker=1"])
def test_options_of_ray_are_refused_without_it(refused: Callable[..., str], option: str) -> None:
    assert "for --engine ray" in refused(option)


def test_a_missing_ray_is_one_line(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused("--engine", "ray").endswith("needs ray, which is not installed: pip install 'pcbench[ray]'")


CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_workers_share_machines_evenly() -> None:
    assert crew_of(Cluster(), CUDA, [(64.0, 8.0)]).cpus == 8
    assert crew_of(Cluster(), CUDA, [(64.0, 8.0), (64.0, 8.0)]).workers == 16
    assert crew_of(Cluster(gpus=0.25), CUDA, [(64.0, 2.0)]).workers == 8
    assert crew_of(Cluster(workers=4), CPU, [(16.0, 0.0), (8.0, 0.0)]).cpus == 5
    assert crew_of(Cluster(), CPU, [(4 * float(torch.get_num_threads()), 0.0)]).workers == 4


@pytest.mark.parametrize(
    ("cluster", "device"),
    [
        (Cluster(workers=9), CUDA),
        (Cluster(gpus=0.5, workers=17), CUDA),
        (Cluster(cpus=65), CPU),
        (Cluster(workers=65), CPU),
    ],
)
def test_what_does_not_fit_is_refused(cluster: Cluster, device: torch.device) -> None:
    with pytest.raises(UserError, match="do not fit the cluster"):
        crew_of(cluster, device, [(64.0, 8.0)])
    with pytest.raises(UserError, match="do not fit the cluster"):
        crew_of(Cluster(), CUDA, [(64.0, 0.0)])
