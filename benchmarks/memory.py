"""Peak memory of each stage, on synthetic results as large as a full one: 50,000 images x 75 conditions x 11 timesteps.

    python benchmarks/memory.py [--images 50000] [--conditions 75] [--timesteps 10] [--directory DIR]

Two networks, one with dynamics and its baseline. Each stage runs in a process of its own: cells are written as a run
writes them, one after another; tables and figures are made as at the end of a run; `compare` and `report` are those
of the commands. Prints the peak resident memory of each, what the imports take, and the seconds; exit code 1 when one
needs more than 2 GB. Nothing is left behind unless --directory is given, whose cells are used again.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

LIMIT = 2e9  # bytes
NAMES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}


def write(directory: Path, images: int, conditions: int, timesteps: int) -> None:
    """Cells of two networks, through the harness's own growing columns and the directory's own writing."""
    from pcbench.harness.memory import Growing
    from pcbench.keys import CellKey, Condition, DataKey, ModelKey, digest_of
    from pcbench.results.cell import Answers
    from pcbench.results.directory import Directory
    from pcbench.results.requests import AskedSuite, Request

    static = ModelKey("static", "made", {}, digest_of("static"))
    dynamic = ModelKey("dynamic", "made", {}, digest_of("dynamic"), "", static)
    data = DataKey("made", digest_of(["made", images]), images)
    pairs = [(name, group, s) for group, names in NAMES.items() for name in names for s in range(1, 6)]
    asked = [Condition("corruption", name, group, float(s)) for name, group, s in pairs[:conditions]]
    ids = [f"ILSVRC2012_val_{i:08d}" for i in range(images)]
    labels = np.random.default_rng(0).integers(0, 1000, images).astype(np.int32)
    hardness = np.random.default_rng(1).random(images)
    cells = []
    with Directory(directory) as target:
        for number, (condition, model) in enumerate(itertools.product(asked, (dynamic, static))):
            steps = timesteps if model is dynamic else 0
            key = CellKey(model, data, condition, steps, "predictions", 0, "float32", "2")
            cells.append(key.digest)
            if target.cell(key) is not None:
                continue
            columns = {name: Growing() for name in ("prediction", "confidence", "nll", "prediction_cumulative")}
            stream = np.random.default_rng(number)
            for start in range(0, images, 256):  # batch by batch
                part = slice(start, min(start + 256, images))
                wide = steps + 1, len(labels[part])
                level = 0.8 - 0.1 * condition.severity + 0.02 * np.arange(steps + 1)[:, None]
                right = hardness[part] + stream.normal(0, 0.05, wide) < level
                said = np.where(right, labels[part], (labels[part] + 1) % 1000).astype(np.int32)
                columns["prediction"].append(said)
                columns["prediction_cumulative"].append(said)
                columns["confidence"].append(stream.random(wide, dtype=np.float32))
                columns["nll"].append(stream.random(wide, dtype=np.float32))
            known = {"num_classes": 1000, "has_dynamics": steps > 0, "gmacs": [1.0] * (steps + 1)}
            told = {"device": "cpu", "seconds": {"model": 1.0}, "model": {**known, "gmacs_unrolled": known["gmacs"]}}
            answers = Answers(ids, labels, {name: column.values() for name, column in columns.items()})
            target.add(key, answers, told, {})
        plain = [json.loads(condition.text) for condition in asked]
        suite = AskedSuite(name="imagenet-c", version=1, measure="predictions", conditions=plain, cells=cells)
        request = Request(
            asked={}, models=["dynamic", "static"], data="made", suites=[suite], created="2026-01-01T00:00:00Z"
        )
        target.record(request, lambda kept: None)


def derive(directory: Path) -> None:
    """Tables and figures, as at the end of a run."""
    from pcbench.harness import run
    from pcbench.results.directory import Directory

    with Directory(directory) as target:
        run.derive(target, lambda text: None)


def compare(directory: Path) -> None:
    """`pcbench compare DIR`, without the printing."""
    from pcbench.analysis.compare import compare as compared
    from pcbench.report.tables import grids

    found = compared(directory)
    list(grids(found.questions))
    _ = found.sentences


def report(directory: Path) -> None:
    """`pcbench report DIR`, without writing the page."""
    from pcbench.report.page import page
    from pcbench.results.study import load_results

    page(load_results(directory))


def nothing(directory: Path) -> None:
    """What importing it all takes."""
    import pcbench.analysis.selection
    import pcbench.figures.run
    import pcbench.harness.run
    import pcbench.report.page  # noqa: F401


STAGES: dict[str, Callable[..., None]] = {
    "imports": nothing,
    "write": write,
    "tables and figures": derive,
    "compare": compare,
    "report": report,
}


def peak() -> int:
    """Peak resident memory of this process, in bytes."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def measured(directory: Path, images: int, conditions: int, timesteps: int) -> Iterator[tuple[str, int, float]]:
    """(stage, peak resident memory in bytes, seconds), each in a process of its own, in order."""
    for stage in STAGES:
        words = [stage, str(directory), str(images), str(conditions), str(timesteps)]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, __file__, "--stage", *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{stage} failed:\n{done.stderr}")
        yield stage, int(done.stdout.split()[-1]), time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--stage"]:
        stage, directory, *sizes = sys.argv[2:]
        STAGES[stage](Path(directory), *([int(size) for size in sizes] if stage == "write" else []))
        print(peak())
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--conditions", type=int, default=75)
    parser.add_argument("--timesteps", type=int, default=10)
    parser.add_argument("--directory", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = asked.directory or Path(folder) / "results"
        print(f"{asked.images:,} images x {asked.conditions} conditions x {asked.timesteps + 1} timesteps, 2 networks")
        most = 0
        for stage, size, seconds in measured(directory, asked.images, asked.conditions, asked.timesteps):
            most = max(most, size)
            print(f"{stage:20s} {size / 1e6:8,.0f} MB {seconds:8.1f} s", flush=True)
    print(f"at most {most / 1e6:,.0f} MB, of {LIMIT / 1e6:,.0f} MB that it may be")
    raise SystemExit(1 if most > LIMIT else 0)


if __name__ == "__main__":
    main()
