"""What a run will need, from what its parts take."""

import json
from pathlib import Path

import pytest
import torch

from pcbench.cli.app import main
from pcbench.config import RunConfig
from pcbench.harness.benchmark import measure
from pcbench.harness.estimate import ModelTiming, Timings, Work, estimate

RECORDED = Path(__file__).parent / "recorded"

TIMINGS = Timings(
    cores=4,
    threads=2,
    workers=2,
    on_cpu=False,
    opening=3.0,
    decoding=0.01,
    models={"m": ModelTiming(first=0.1, step=0.2, memory=1000)},
    ahead={"fog": 1.0},
    writing=0.5,
    worker_start=5.0,
    process=10_000,
    worker=100,
    row=2.0,
    cell=7.0,
)
WORK = Work(images=100, bytes_per_image=3, groups=[("clean", [("m", 2)]), ("fog", [("m", 2), ("m", 0)])])


def test_the_slower_of_workers_and_model_counts() -> None:
    found = estimate(TIMINGS, WORK)
    # clean: the model's 100 x 0.5 s; fog: 100 x 1 s by two workers, less than the model's 100 x (0.5 + 0.1) s
    assert found.seconds["sweep"] == pytest.approx(50 + 60 + 3 * 0.5 + 5)
    slow = estimate(TIMINGS.model_copy(update={"ahead": {"fog": 2.0}}), WORK)
    assert slow.seconds["sweep"] == pytest.approx(50 + 100 + 3 * 0.5 + 5)
    assert found.total == pytest.approx(3 + 1 + 116.5)


def test_on_the_cpu_workers_and_model_share_the_cores() -> None:
    found = estimate(TIMINGS.model_copy(update={"on_cpu": True, "cores": 2}), WORK)
    assert found.seconds["sweep"] == pytest.approx(50 + (100 + 60 * 2) / 2 + 1.5 + 5)


def test_without_workers_one_thing_follows_the_other() -> None:
    found = estimate(TIMINGS.model_copy(update={"workers": 0}), WORK)
    assert found.seconds["sweep"] == pytest.approx(50 + 100 + 60 + 1.5)
    assert found.memory == 10_000


def test_memory_and_disk_add_up() -> None:
    found = estimate(TIMINGS, WORK)
    assert found.memory == 10_000 + 2 * 100
    assert found.device_memory == 1000
    assert found.records == 100 * (3 + 3 + 1) * 2 + 3 * 7
    assert found.temporary == 300


def test_measuring_finds_the_work_of_the_run(suite: str) -> None:
    request = RunConfig.of(model=["tiny_models:slow", "tiny_models:still"], suite=suite, data="samples", limit=9)
    timings, work = measure(request, torch.device("cpu"), 4, 0)
    assert work.images == 9
    assert sorted(len(cells) for _, cells in work.groups) == [2, 2, 2, 4, 4]  # two severities of each corruption
    assert {steps for _, cells in work.groups for _, steps in cells} == {0, 2}
    assert set(timings.ahead) == {
        "corruption contrast 1,3",
        "corruption impulse_noise 1,3",
    }  # corruptions; noise is added beside the model
    assert len(timings.beside) == 2 * 2
    assert 0.05 / 4 <= timings.models["tiny_models:slow"].first < 0.5
    assert timings.models["tiny_models:still"].step == 0
    assert work.bytes_per_image == 3 * 32 * 32


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_an_estimate_is_within_a_factor_of_a_half_more_of_the_real_time(path: Path) -> None:
    """Timings as `pcbench doctor --benchmark --json` measured them, and the seconds of run.json of that very run."""
    recorded = json.loads(path.read_text())
    found = estimate(Timings.model_validate(recorded["timings"]), Work.model_validate(recorded["work"]))
    real = sum(recorded["run"]["seconds"].values())
    assert real / 1.5 < found.total < real * 1.5
    assert recorded["run"]["records"] / 1.5 < found.records < recorded["run"]["records"] * 1.5


def test_there_are_recorded_runs() -> None:
    assert len(list(RECORDED.glob("*.json"))) >= 1


def ask(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["doctor", *words])
    return int(end.value.code or 0)


def test_the_command_says_what_a_run_needs(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--benchmark", "--model", "tiny_models:tiny", "--suite", suite, "--data", "samples", "--workers", "0"]
    assert ask(*words, "--images", "50000") == 0
    said = capsys.readouterr().out
    assert "7 cells of 50,000 images each" in said
    assert "of records" in said
    assert ask(*words, "--json", "--limit", "5") == 0
    found = json.loads(capsys.readouterr().out)
    assert Work.model_validate(found["work"]).images == 5
    assert estimate(Timings.model_validate(found["timings"]), Work.model_validate(found["work"])).total > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "pvgg16"], "--model describes a run to estimate; add --benchmark"),
        (["--benchmark", "--model", "pvg16"], "did you mean pvgg16"),
        (["--benchmark", "--images", "0"], "images is 0"),
        (["--benchmark", "--limit", "0"], "limit is 0"),
    ],
)
def test_wrong_words_are_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(*words) == 2
    assert says in capsys.readouterr().err
