"""Corrupting images: pcbench's engine against the public packages, per corruption and for all 75 conditions.

    python benchmarks/corruptions.py [--size 224] [--images 8] [--rounds 5] [--original FOLDER] [--device cuda]

One thread. In each round all take turns to make the five severities of a corruption of the same images; times are
medians over the rounds, in milliseconds an image and severity, after one round that is not counted (it compiles, and
builds tables). All use the constants of ImageNet-C. pcbench makes the severities as a sweep does, together, and, in the
column "one by one", each by itself, which shows what their common work is worth; the others know one severity. The
reference is the package `imagecorruptions-imaug`; --original FOLDER adds the code that made ImageNet-C (see
original.py), at 224 pixels, which is its size. The last column is the distance to memory bandwidth: pcbench's time over
the time in which this machine's memory delivers an image and takes one for each severity. With --device cuda, pcbench
corrupts there as well, 64 times as many images at once that lie on the device before and after.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
from limits import bandwidth
from original import SIZE, load_original

from pcbench.data.geometry import Geometry
from pcbench.data.registry import load_data
from pcbench.perturbations.corruptions import BENCHMARK_NAMES, NAMES, SEVERITIES, corrupt, corrupt_severities

Work = Callable[[str], object]  # makes all severities of a corruption


def contestants(images: np.ndarray, original: Path | None, device: str) -> dict[str, tuple[Work, int]]:
    """Column -> what corrupts, and how many images at once."""
    found: dict[str, tuple[Work, int]] = {}
    if original is not None:
        code = load_original(original)
        found["original"] = (lambda name: [code(x, name, s) for s in SEVERITIES for x in images], len(images))
    single = partial(corrupt, images)
    found["reference"] = (lambda name: [single(name, s, backend="reference") for s in SEVERITIES], len(images))
    found["one by one"] = (lambda name: [single(name, s, variant="imagenet-c") for s in SEVERITIES], len(images))
    found["pcbench"] = (lambda name: corrupt_severities(images, name, SEVERITIES, variant="imagenet-c"), len(images))
    if device != "cpu":
        many = torch.from_numpy(images).to(device).repeat(64, 1, 1, 1)

        def there(name: str) -> None:
            corrupt_severities(many, name, SEVERITIES, variant="imagenet-c")
            torch.cuda.synchronize()

        found[device] = (there, len(many))
    return found


def milliseconds(work: Work, images: int, name: str) -> float:
    """Wall time of all severities, an image."""
    start = time.perf_counter()
    work(name)
    return (time.perf_counter() - start) * 1e3 / images


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--original", type=Path, metavar="FOLDER", help="holds the package imagenet_c")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    if arguments.original is not None and arguments.size != SIZE:
        parser.error(f"the original code knows images of {SIZE} pixels only; leave out --original or --size")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    data = load_data("samples")
    geometry = Geometry((arguments.size, arguments.size), arguments.size * 8 // 7)
    images = np.stack([geometry.prepare(data.read(i % len(data))) for i in range(arguments.images)])
    works = contestants(images, arguments.original, arguments.device)
    others = [label for label in works if label != "pcbench"]

    speed = bandwidth("cpu")
    bound = 2 * images[0].nbytes / speed * 1e3
    print(f"{arguments.size} px, {len(images)} images, {arguments.rounds} rounds; memory copies {speed / 1e9:.1f} GB/s")
    ratios = " | ".join("pcbench / cuda" if label == "cuda" else f"{label} / pcbench" for label in others)
    print(f"| corruption | {' ms | '.join(works)} ms | {ratios} | times the bound of memory |")
    print("|---" * (len(works) + len(others) + 2) + "|")
    sums: dict[str, dict[str, float]] = {}
    for name in NAMES:
        rounds = [
            {label: milliseconds(work, count, name) for label, (work, count) in works.items()}
            for _ in range(arguments.rounds + 1)
        ][1:]
        sums[name] = {label: statistics.median(times[label] for times in rounds) for label in works}
        print(row(name, sums[name], others, len(SEVERITIES), f"{sums[name]['pcbench'] / 5 / bound:.0f}"), flush=True)
    for title, names in (("the 75 conditions", BENCHMARK_NAMES), ("all 95", NAMES)):
        total = {label: sum(sums[name][label] for name in names) for label in works}
        distance = f"{total['pcbench'] / len(names) / len(SEVERITIES) / bound:.0f}"
        print(row(f"**{title}, an image**", total, others, 1, distance))
    slower = [name for name in NAMES if sums[name]["pcbench"] > sums[name]["reference"]]
    print(f"slower than the reference: {', '.join(slower) or 'none'}")


def row(title: str, times: dict[str, float], others: list[str], conditions: int, distance: str) -> str:
    """One line of the table; times are divided by the number of conditions that they are summed over."""
    shown = [f"{milliseconds / conditions:.3g}" for milliseconds in times.values()]
    ratios = [times["pcbench"] / times[o] if o == "cuda" else times[o] / times["pcbench"] for o in others]
    return " | ".join([f"| {title}", *shown, *(f"{ratio:.1f}" for ratio in ratios), distance]) + " |"


if __name__ == "__main__":
    main()
