"""Corrupting images: pcbench's engine against the `imagecorruptions` package, per corruption and for all 75 conditions.

    python benchmarks/corruptions.py [--size 224] [--images 8] [--rounds 5]

One thread. In each round and for each condition the two take turns on the same images; times are medians over the
rounds, in milliseconds an image, after one round that is not counted (it compiles, and builds tables). Both use the
constants of ImageNet-C. The code that made ImageNet-C is not measured here.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch

from pcbench.data.geometry import Geometry
from pcbench.data.registry import load_data
from pcbench.perturbations.corruptions import BENCHMARK_NAMES, NAMES, SEVERITIES, corrupt


def milliseconds(images: np.ndarray, name: str, severity: int, backend: str) -> float:
    """Wall time of one call, an image."""
    start = time.perf_counter()
    corrupt(images, name, severity, backend=backend, variant="auto" if backend == "reference" else "imagenet-c")
    return (time.perf_counter() - start) * 1e3 / len(images)


def copy_milliseconds(images: np.ndarray) -> float:
    """Reading and writing every byte once: the bound that memory sets."""
    start = time.perf_counter()
    for _ in range(20):
        images.copy()
    return (time.perf_counter() - start) * 1e3 / len(images) / 20


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    data = load_data("samples")
    geometry = Geometry((arguments.size, arguments.size), arguments.size * 8 // 7)
    images = np.stack([geometry.prepare(data.read(i % len(data))) for i in range(arguments.images)])

    copying = statistics.median(copy_milliseconds(images) for _ in range(5))
    print(
        f"{arguments.size} px, {len(images)} images, {arguments.rounds} rounds; a copy takes {copying:.4f} ms an image"
    )
    print("| corruption | reference ms | pcbench ms | ratio | times a copy |")
    print("|---|---|---|---|---|")
    sums: dict[str, tuple[float, float]] = {}
    for name in NAMES:
        ours, theirs = 0.0, 0.0
        for severity in SEVERITIES:
            pairs = [
                [milliseconds(images, name, severity, backend) for backend in ("native", "reference")]
                for _ in range(arguments.rounds + 1)
            ][1:]
            native, reference = (statistics.median(times) for times in zip(*pairs, strict=True))
            ours, theirs = ours + native, theirs + reference
        sums[name] = ours, theirs
        print(
            f"| {name} | {theirs / 5:.2f} | {ours / 5:.3f} | {theirs / ours:.1f} | {ours / 5 / copying:.0f} |",
            flush=True,
        )
    for title, names in (("the 75 conditions", BENCHMARK_NAMES), ("all 95", NAMES)):
        ours, theirs = (sum(sums[name][i] for name in names) for i in (0, 1))
        print(f"| **{title}, an image** | {theirs:.1f} | {ours:.1f} | {theirs / ours:.1f} | |")


if __name__ == "__main__":
    main()
