"""How models compute: memory that a batch is chosen by, compilation that must pay."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_models
import torch
from PIL import Image
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.harness import compute
from pcbench.harness.compute import batch_that_fits, compile_where_it_pays, memory_of_one
from pcbench.harness.run import run
from pcbench.results.requests import read_requests

CPU = torch.device("cpu")
EXACT = ["image", "label", "timestep", "prediction", "correct", "perturbation", "severity"]


class Wide(tiny_models.Tiny):
    """Holds two tensors of 4 MB an image at the same time, and a third one after they are gone."""

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        one = x.new_ones(len(x), 2**20)
        two = one + 1
        total = (one + two.neg_()).sum()  # neg_ makes nothing; the sum of both is a third
        del one, two
        three = x.new_ones(len(x), 2**20).sum() * 0
        return super().rollout(x, timesteps) + 0 * total + three


def test_the_memory_of_one_image_is_that_of_the_tensors_that_live_together() -> None:
    needed = memory_of_one(Wide(), 2, CPU, torch.float32)
    assert 3 * 2**22 <= needed < 3.2 * 2**22


def test_the_batch_is_what_half_of_the_free_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [(tiny_models.Tiny(), 2), (Wide(), 2)]
    needed = memory_of_one(Wide(), 2, CPU, torch.float32)
    sizes = {}
    for images_in_half in (0, 1, 5, 1000):
        monkeypatch.setattr(compute, "free_memory", lambda device, n=images_in_half: 2 * n * needed)
        sizes[images_in_half] = batch_that_fits(models, CPU, torch.float32, images=20)
    assert sizes == {0: 1, 1: 1, 5: 5, 1000: 20}
    assert batch_that_fits(models, CPU, torch.float32, images=10**6) == compute.LARGEST_BATCH["cpu"]


def test_a_container_s_limit_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "_CGROUP", tmp_path)
    unlimited = compute.free_memory(CPU)
    (tmp_path / "memory.current").write_text("30000000\n")
    (tmp_path / "memory.max").write_text("100000000\n")
    assert compute.free_memory(CPU) == 70_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert compute.free_memory(CPU) > unlimited / 2


@pytest.mark.parametrize("batch_size", [3, "auto"])
def test_the_automatic_batch_and_what_computed_are_recorded(
    tmp_path: Path, suite: str, batch_size: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcbench.harness.run.batch_for", lambda *arguments: 11)
    run(
        model="tiny_models:tiny",
        suite=suite,
        data="samples",
        output=tmp_path / "run",
        batch_size=batch_size,
        workers=0,
        figures=False,
    )
    recorded = read_requests(tmp_path / "run").requests[0].compute
    assert recorded["batch_size"] == (11 if batch_size == "auto" else 3)
    assert recorded["threads"] == torch.get_num_threads()


MEMORY_LIMIT = """
import resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pcbench.harness.run import run
import pcbench.figures, hungry_model
def used():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
common = {"model": "hungry_model:make", "suite": sys.argv[1], "data": "samples", "workers": 0, "figures": False}
run(**common, output=sys.argv[2] + "-warm", batch_size=1, limit=1)
limit = used() + 1200 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
run(**common, output=sys.argv[2], batch_size=20)
"""

HUNGRY = """
import tiny_models
class Hungry(tiny_models.Tiny):
    def rollout(self, x, timesteps):
        block = x.new_ones(len(x), 25, 2**20)  # 100 MB an image
        return super().rollout(x, timesteps) + 0 * block[:, 0, :1]
def make():
    return Hungry()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_a_run_backs_off_when_the_system_refuses_memory(tmp_path: Path, suite: str) -> None:
    (tmp_path / "hungry_model.py").write_text(HUNGRY)
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", MEMORY_LIMIT, suite, str(tmp_path / "run")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    limited = pd.read_csv(tmp_path / "run" / "accuracy.csv")
    free = run(
        model="tiny_models:tiny", suite=suite, data="samples", output=tmp_path / "free", workers=0, figures=False
    ).accuracy
    assert limited["correct"].tolist() == free["correct"].tolist()


def fake_compile(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> None:
    """torch.compile that gives the same function, and a clock by which it takes as long as is said."""
    clock = [0.0]
    monkeypatch.setattr(compute.time, "perf_counter", lambda: clock[0])

    def slow(kind: str, function: object) -> object:
        def call(x: Tensor, timesteps: int) -> Tensor:
            clock[0] += seconds[kind]
            return function(x, timesteps)  # type: ignore[operator]

        return call

    eager = tiny_models.Tiny.rollout
    monkeypatch.setattr(tiny_models.Tiny, "rollout", lambda self, x, timesteps: eager(self, x, timesteps))
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: slow("compiled", function))
    monkeypatch.setattr(
        compute.Compiled,
        "__init__",
        lambda self, rollout, shape, make=compute.Compiled.__init__: (
            make(self, rollout, shape),
            setattr(self, "_eager", slow("eager", rollout)),
        )[0],
    )


@pytest.mark.parametrize(("compiled", "kept"), [(1.0, True), (4.0, False)])
def test_a_compiled_model_is_kept_only_if_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, compiled: float, kept: bool
) -> None:
    fake_compile(monkeypatch, {"compiled": compiled, "eager": 2.0})
    model = tiny_models.Tiny()
    line = compile_where_it_pays(model, 2, 4, CPU, torch.float32)
    assert model.rollout.enabled is kept  # type: ignore[attr-defined]
    assert ("2.00 times the speed, after" in line) is kept
    assert ("does not pay (0.50" in line) is not kept


def test_what_cannot_be_compiled_runs_without_and_says_so(
    tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(function: object, dynamic: bool) -> object:
        def call(*arguments: object) -> None:
            raise RuntimeError("no C++ compiler\nlong story")

        return call

    monkeypatch.setattr(torch, "compile", refuse)
    common = {"workers": 0, "figures": False}
    result = run(model="tiny_models:tiny", suite=suite, data="samples", output=tmp_path / "run", compile=True, **common)  # type: ignore[arg-type]
    notices = read_requests(tmp_path / "run").requests[0].notices
    assert any(line.endswith("torch.compile failed, so it runs without: no C++ compiler") for line in notices)
    plain = run(model="tiny_models:tiny", suite=suite, data="samples", output=tmp_path / "plain", **common)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(result.records[EXACT], plain.records[EXACT])


def test_only_the_usual_batch_is_compiled_and_never_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        torch, "compile", lambda function, dynamic: lambda x, t: (calls.append(len(x)), function(x, t))[1]
    )
    model = nn.Module()
    model.rollout = compute.Compiled(lambda x, t: x * t, (2, 4))
    with torch.inference_mode():
        for size, timesteps in ((4, 2), (3, 2), (4, 0)):
            assert torch.equal(model.rollout(torch.ones(size), timesteps), torch.full((size,), float(timesteps)))
    model.rollout(torch.ones(4), 2)  # gradients are on
    assert calls == [4]


@pytest.mark.slow
def test_a_compiled_predictive_network_gives_the_same_answers() -> None:
    import pcbench

    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 5)).eval()
    net = pcbench.predify(network, {"input_size": [3, 8, 8], "pcoders": [{"module": "1"}]})
    x = torch.rand(4, 3, 8, 8)
    compiled = compute.Compiled(net, (3, 4))
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x, 3), net(x, 3))


def test_tf32_is_refused_without_cuda(tmp_path: Path, suite: str) -> None:
    with pytest.raises(UserError, match="--tf32 is arithmetic of CUDA devices"):
        run(model="tiny_models:tiny", suite=suite, data="samples", output=tmp_path / "run", device="cpu", tf32=True)
    assert not (tmp_path / "run").exists()


def test_tf32_flags_are_set_and_put_back() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    for allowed in (True, False):
        with compute.tf32_allowed(allowed, torch.device("cuda")):
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (allowed, allowed)
    assert (matmul.allow_tf32, cudnn.allow_tf32) == before


PEAK = """
import resource, sys
from pcbench.harness.run import run
_, suite, data, output = sys.argv
run(
    model="tiny_models:large", suite=suite, data=data, output=output, workers=0, figures=False, batch_size=4
)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(folder: Path, images: int, severities: int) -> int:
    """Peak resident memory, in MiB, of a run in a process of its own."""
    data = folder / f"images-{images}"
    for index in range(images):
        path = data / "n01440764" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 48), (index % 256, 2 * index % 256, 7)).save(path)
    suite = folder / "suite.toml"
    suite.write_text(
        'name = "s"\nversion = 1\ndescription = ""\n[[perturbations]]\nkind = "corruption"\n'
        f'names = ["contrast", "pixelate"]\nseverities = {list(range(1, severities + 1))}\n'
    )
    environment = {"PYTHONPATH": str(Path(__file__).parent), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    output = folder / f"run-{images}-{severities}"
    words = [sys.executable, "-c", PEAK, str(suite), str(data), str(output)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_resident_memory_does_not_grow_with_images_or_conditions(tmp_path: Path) -> None:
    few = peak(tmp_path, images=40, severities=1)
    assert peak(tmp_path, images=40, severities=4) < few + 40  # to keep the images of all conditions would add 180 MiB
    assert peak(tmp_path, images=240, severities=1) < few + 40  # to keep the images would add 150 MiB
