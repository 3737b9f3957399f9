"""A sweep from end to end: `pcbench run` against the script that one would write for it.

    python benchmarks/sweep.py [--model NAME] [--corruptions NAME ...] [--severities S ...] [--timesteps T]
                               [--repeats N] [--batch-size N] [--parts turns|agreement|overhead ...]

The straightforward script loops over conditions; a DataLoader with worker processes decodes, resizes and crops each
image and corrupts it with the `imagecorruptions` package; the network is the literal one of `timestep.py` (forward
hooks, autograd for the error gradient), without merged layers, in PyTorch's default settings; all timesteps come from
one pass; accuracies go to a CSV file. pcbench runs as `pcbench run --no-figures` with its defaults. Same weights, same
images, all cores. Each run has a process of its own, from its start to its end; the two take turns, a figure is the
median over the turns, a ratio that of the medians.

Both draw other random numbers, so predictions are compared on the same pixels: the straightforward script's network
is asked about the images that pcbench's engine corrupts, condition by condition, and its predictions at every timestep
are counted against the records of pcbench's run.

Also: what the harness adds to the model and the corruptions, run bare on the same batches (without and with worker
processes); peak memory of both; and how far the sweep is from the machine's own limits.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from timestep import Literal
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from pcbench.data.geometry import Geometry
from pcbench.data.registry import load_data
from pcbench.harness.memory import keep_freed_memory
from pcbench.models.base import TemporalClassifier
from pcbench.models.resolve import load_model
from pcbench.perturbations.corruptions import BENCHMARK_NAMES, corrupt, corrupt_severities


def suite_file(folder: Path, names: list[str], severities: list[int]) -> Path:
    """The conditions as a suite of pcbench."""
    path = folder / "sweep.toml"
    path.write_text(
        'name = "sweep"\nversion = 1\ndescription = "the corruptions of ImageNet-C"\n[[perturbations]]\n'
        f'kind = "corruption"\nnames = {names}\nseverities = {severities}\n'
    )
    return path


def literal(name: str) -> tuple[TemporalClassifier, Literal]:
    """The model for its preprocessing, and the literal network of the same weights."""
    model = load_model(name)
    return model, Literal(model.network).eval().to(memory_format=torch.contiguous_format)


class Corrupted(Dataset[tuple[Tensor, int]]):
    """What everybody writes: decode, resize, crop, corrupt, normalise, one image at a time."""

    def __init__(self, corruption: str, severity: int, model: TemporalClassifier) -> None:
        from torchvision import transforms

        self.data = load_data("samples")
        size = model.preprocessing.resize or model.preprocessing.size[0]
        mode = transforms.InterpolationMode(model.preprocessing.interpolation)
        self.before = transforms.Compose(
            [transforms.Resize(size, mode), transforms.CenterCrop(model.preprocessing.size)]
        )
        normalise = transforms.Normalize(model.preprocessing.mean, model.preprocessing.std)
        self.after = transforms.Compose([transforms.ToTensor(), normalise])
        self.corruption, self.severity = corruption, severity

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        import imagecorruptions
        from PIL import Image

        image = np.asarray(self.before(Image.fromarray(self.data.read(index))))
        image = imagecorruptions.corrupt(image, severity=self.severity, corruption_name=self.corruption)
        return self.after(Image.fromarray(image.astype(np.uint8))), self.data.labels[index]


def straightforward(arguments: argparse.Namespace, folder: Path) -> None:
    """The script that one would write."""
    model, network = literal(arguments.model)
    rows = []
    for corruption in arguments.corruptions:
        for severity in arguments.severities:
            data = Corrupted(corruption, severity, model)
            right = torch.zeros(arguments.timesteps + 1)
            for images, labels in DataLoader(data, arguments.batch_size, num_workers=os.cpu_count() or 1):
                with torch.no_grad():
                    right += (network(images, arguments.timesteps).argmax(-1) == labels).sum(1)
            rows += [(corruption, severity, t, float(n) / len(data)) for t, n in enumerate(right)]
    with (folder / "accuracy.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def bare(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of the corruptions and of the model, and of nothing else, on pcbench's batches in this process."""
    keep_freed_memory()
    model = load_model(arguments.model)
    pixels, data = prepared(model)
    seconds = {"corruption": 0.0, "model": 0.0}
    with torch.inference_mode():
        model(torch.rand(2, *model.input_size), timesteps=1)
        for corruption in arguments.corruptions:
            start = time.perf_counter()
            made = corrupt_severities(pixels, corruption, arguments.severities, ids=data.ids)
            middle = time.perf_counter()
            for images in made:
                model(torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255), timesteps=arguments.timesteps)
            seconds["corruption"] += middle - start
            seconds["model"] += time.perf_counter() - middle
    return seconds


def prepared(model: TemporalClassifier) -> tuple[np.ndarray, Any]:
    """The images of `samples` as the model wants them, and the set."""
    data, geometry = load_data("samples"), Geometry.of(model.preprocessing)
    return np.stack([geometry.prepare(data.read(i)) for i in range(len(data))]), data


def agreement(arguments: argparse.Namespace, run: Path) -> tuple[int, int]:
    """Of the predictions of a run, how many the literal network gives too on the same pixels, and of how many."""
    keep_freed_memory()
    records = pd.concat([pd.read_parquet(path) for path in sorted((run / "records").glob("*.parquet"))])
    found = records.set_index(["perturbation", "severity", "timestep", "image"])["prediction"]
    model, network = literal(arguments.model)
    pixels, data = prepared(model)
    same = total = 0
    for corruption in arguments.corruptions:
        for severity in arguments.severities:
            images = torch.from_numpy(corrupt(pixels, corruption, severity, ids=data.ids)).permute(0, 3, 1, 2) / 255
            with torch.no_grad():
                predictions = network(model.normalise(images), arguments.timesteps).argmax(-1)
            for t, row in enumerate(predictions.tolist()):
                theirs = found.loc[[(corruption, float(severity), t, name) for name in data.ids]].tolist()
                same += sum(a == b for a, b in zip(row, theirs, strict=True))
                total += len(row)
    return same, total


class Traffic(TorchDispatchMode):
    """Bytes that operators read and write, if nothing stayed in a cache between two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            leaves = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.bytes += sum(leaf.numel() * leaf.element_size() for leaf in leaves)
        return out


def limits(arguments: argparse.Namespace) -> dict[str, float]:
    """What the machine can do, and what an image (all timesteps) asks of it."""
    model = load_model(arguments.model)
    images = torch.rand(20, *model.input_size)
    with torch.inference_mode(), Traffic() as traffic:
        model(images, timesteps=arguments.timesteps)
    with torch.inference_mode(), FlopCounterMode(display=False) as flops:
        model(images, timesteps=arguments.timesteps)
    matrix, big = torch.rand(2048, 2048), torch.ones(2**26)
    target = torch.empty_like(big)
    return {
        "peak GFLOP/s": 2 * 2048**3 / fastest(lambda: matrix @ matrix) / 1e9,
        "bandwidth GB/s": 8 * 2**26 / fastest(lambda: torch.add(big, 1, out=target)) / 1e9,
        "GFLOP": flops.get_total_flops() / len(images) / 1e9,
        "GB": traffic.bytes / len(images) / 1e9,
    }


def fastest(work: Callable[[], object]) -> float:
    """Seconds."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def child(words: list[str]) -> tuple[float, float]:
    """Seconds that a process takes from its start to its end, and its peak memory in MiB, without its children's."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, errors
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def pcbench(arguments: argparse.Namespace, folder: Path, turn: str, *more: str) -> tuple[float, float]:
    """One run of the command."""
    words = ["run", "--model", arguments.model, "--suite", str(folder / "sweep.toml"), "--data", "samples", "--quiet"]
    words += ["--timesteps", str(arguments.timesteps), "--no-figures", "--output", str(folder / turn), *more]
    return child([sys.executable, "-c", f"from pcbench.cli.app import main; main({words!r})"])


def sweep_seconds(run: Path) -> float:
    """Seconds of the sweep alone: perturb, ask, write records and accuracies."""
    seconds: float = json.loads((run / "run.json").read_text())["seconds"]["sweep"]
    return seconds


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pefficientnet-lite0")
    names = list(BENCHMARK_NAMES)
    parser.add_argument("--corruptions", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument("--severities", type=int, nargs="+", default=[3])
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16, help="of the straightforward script")
    parts = ("turns", "agreement", "overhead")
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts, help="what to measure; default all")
    parser.add_argument("--straightforward", metavar="DIR", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.straightforward:
        straightforward(arguments, Path(arguments.straightforward))
        return
    with tempfile.TemporaryDirectory() as name:
        report(arguments, Path(name))


def report(arguments: argparse.Namespace, folder: Path) -> None:
    """Measure, and print Markdown."""
    suite_file(folder, arguments.corruptions, arguments.severities)
    images = 20 * len(arguments.corruptions) * len(arguments.severities)
    print(
        f"{arguments.model}, {images} corrupted images, T = {arguments.timesteps}, {torch.get_num_threads()} threads\n"
    )
    if "turns" in arguments.parts:
        turns(arguments, folder, images)
    elif "agreement" in arguments.parts:
        pcbench(arguments, folder, "run-0")
    if "agreement" in arguments.parts:
        same, total = agreement(arguments, folder / "run-0")
        print(f"Of {total} predictions on the same pixels, {same} are equal.\n", flush=True)
    if "overhead" in arguments.parts:
        overhead(arguments, folder, images)


def turns(arguments: argparse.Namespace, folder: Path, images: int) -> None:
    """Both sides from start to end."""
    script = [sys.executable, __file__, "--straightforward", str(folder), "--model", arguments.model]
    script += ["--timesteps", str(arguments.timesteps), "--batch-size", str(arguments.batch_size)]
    script += ["--corruptions", *arguments.corruptions, "--severities", *map(str, arguments.severities)]
    found: dict[str, list[tuple[float, float]]] = {"script": [], "pcbench": []}
    for turn in range(arguments.repeats):
        found["script"].append(child(script))
        found["pcbench"].append(pcbench(arguments, folder, f"run-{turn}"))
        for side in ("script", "pcbench"):
            print(f"turn {turn + 1}, {side}: {found[side][-1][0]:.1f} s", file=sys.stderr, flush=True)
    seconds = {side: statistics.median(time for time, _ in values) for side, values in found.items()}
    memory = {side: max(peak for _, peak in values) for side, values in found.items()}
    print("| | seconds | images/s | peak memory, MiB |\n|---|---|---|---|")
    for side, title in (("script", "straightforward script"), ("pcbench", "`pcbench run`")):
        print(f"| {title} | {seconds[side]:.1f} | {images / seconds[side]:.2f} | {memory[side]:.0f} |")
    print(f"| ratio | {seconds['script'] / seconds['pcbench']:.2f} | | |\n", flush=True)


def overhead(arguments: argparse.Namespace, folder: Path, images: int) -> None:
    """What the harness adds to the bare work, and how far that work is from the machine's limits."""
    pcbench(arguments, folder, "inline", "--workers", "0")
    alone = bare(arguments)
    pure = sum(alone.values())
    print("| sweep alone | seconds | beyond the bare model and corruptions |\n|---|---|---|")
    print(f"| bare: corruptions {alone['corruption']:.1f} s, model {alone['model']:.1f} s | {pure:.1f} | |")
    runs = {
        "corruptions beside the model": ["inline"],
        "in worker processes": [run.name for run in sorted(folder.glob("run-*"))],
    }
    for title, names in runs.items():
        if not names:
            continue
        taken = statistics.median(sweep_seconds(folder / name) for name in names)
        print(f"| {title} | {taken:.1f} | {100 * (taken / pure - 1):.1f} % |")
    machine = limits(arguments)
    per_image = alone["model"] / images
    arithmetic = machine["GFLOP"] / machine["peak GFLOP/s"]
    moving = machine["GB"] / machine["bandwidth GB/s"]
    print(
        f"\nOne image, all timesteps: {machine['GFLOP']:.2f} GFLOP and {machine['GB']:.2f} GB between operators; the "
        f"machine does {machine['peak GFLOP/s']:.0f} GFLOP/s and {machine['bandwidth GB/s']:.0f} GB/s, so at least "
        f"{1e3 * arithmetic:.0f} ms and {1e3 * moving:.0f} ms; measured {1e3 * per_image:.0f} ms "
        f"({100 * arithmetic / per_image:.0f} % of the arithmetic peak, {100 * moving / per_image:.0f} % of the "
        "bandwidth)."
    )


if __name__ == "__main__":
    main()
