"""How long the analysis of a full run takes: 75 conditions x 11 timesteps x 5,000 images, two models.

    python benchmarks/analysis.py [--images 5000]

The slow side is SciPy's exact binomial test in a loop over the cells: McNemar's exact test, without any interval.
"""

import argparse
import itertools
import time

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from pcbench.analysis.alexnet import BENCHMARK
from pcbench.analysis.answers import Answers
from pcbench.analysis.comparison import ask, measure, own_start, pairs, systems
from pcbench.keys import Condition, DataKey, ModelKey
from pcbench.results.study import System


def answers(model: str, images: int, timesteps: int) -> Answers:
    """Answers of one model on ImageNet-C: hard images are hard in every condition."""
    keys = tuple(Condition("corruption", name, "g", float(s)) for name in BENCHMARK for s in range(1, 6))
    hardness = np.random.default_rng(0).random(images)[:, None]
    noise = np.random.default_rng(1).normal(0, 0.05, (len(keys), images, timesteps + 1))
    severity = np.array([key.severity for key in keys])[:, None, None]
    about = [{"perturbation": key.perturbation, "group": key.group, "severity": key.severity} for key in keys]
    return Answers(
        System(ModelKey(model, "w"), DataKey("d", "f", images), timesteps, 0, "float32", "1"),
        model,
        "imagenet-c",
        pd.DataFrame(about),
        keys,
        np.array([f"i{k:05d}" for k in range(images)], dtype=object),
        list(range(timesteps + 1)),
        hardness + noise < 0.9 - 0.1 * severity,
        classes=1000,
    )


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    images = parser.parse_args().images
    both = [answers("dynamic", images, 10), answers("static", images, 0)]
    start = time.perf_counter()
    found = systems(both)
    asked = [ask(measure(*pair)) for pair in pairs(found, {"dynamic": "static", "static": None})]
    ours = time.perf_counter() - start
    print(f"{sum(each.values.size for each in both)} records, {len(asked)} questions: {ours:.1f} s")
    table = asked[0].table[asked[0].table["level"] == "condition"]
    start = time.perf_counter()
    first, second = found[0].answers.values, own_start(found[0]).answers.values[:, :, 0]
    for row, t in itertools.product(range(len(first)), range(first.shape[2])):
        a, b = first[row, :, t], second[row]
        discordant = int((a ^ b).sum())
        if discordant:
            _ = binomtest(int((a & ~b).sum()), discordant).pvalue
    print(f"McNemar alone, cell by cell with SciPy ({len(table)} cells): {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
