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
from pcbench.analysis.answers import answers
from pcbench.analysis.comparison import own_start, questions, systems


def records(model: str, images: int, timesteps: int) -> pd.DataFrame:
    """Records of one model on ImageNet-C, with the columns that the analysis reads."""
    conditions = list(itertools.product(BENCHMARK, range(1, 6)))
    shape = len(conditions), timesteps + 1, images
    at = np.indices(shape).reshape(3, -1)
    names = pd.Categorical([name for name, _ in conditions], categories=BENCHMARK).codes
    hardness = np.random.default_rng(0).random(images)[at[2]]
    severity = np.array([s for _, s in conditions], dtype=float)[at[0]]
    noise = np.random.default_rng(1).normal(0, 0.05, at.shape[1])
    constant = {"model": model, "weights": "w", "data": "d", "suite": "imagenet-c", "group": "g"}
    table = pd.DataFrame({"severity": severity, "timestep": at[1], "correct": hardness + noise < 0.9 - 0.1 * severity})
    table["perturbation"] = pd.Categorical.from_codes(names[at[0]], categories=BENCHMARK)
    table["image"] = pd.Categorical.from_codes(at[2], categories=[f"i{k:05d}" for k in range(images)])
    return table.assign(**{key: pd.Categorical([value] * len(table)) for key, value in constant.items()})


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    images = parser.parse_args().images
    tables = [records("dynamic", images, 10), records("static", images, 0)]
    start = time.perf_counter()
    found = systems([(table["model"].iloc[0], answers(table)) for table in tables])
    asked = questions(found, {"dynamic": "static", "static": None})
    ours = time.perf_counter() - start
    print(f"{len(tables[0]) + len(tables[1])} records, {len(asked)} questions: {ours:.1f} s")
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
