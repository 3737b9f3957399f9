"""Set two results directories side by side: accuracy against timestep, from their tables.

    python compare_runs.py DIR DIR

`pcbench compare DIR DIR` adds paired tests and intervals; this is for a figure or an analysis of one's own.
"""

import sys

import pandas as pd

import pcbench

first, second = sys.argv[1:3]
tables = [pcbench.load_results(directory).accuracy.assign(directory=directory) for directory in (first, second)]
both = pd.concat(tables, ignore_index=True)

shared = ["data", "suite", "perturbation", "severity"]
conditions = [set(table[shared].itertuples(index=False, name=None)) for table in tables]
common = conditions[0] & conditions[1]
if not common:
    sys.exit("the two directories have no condition in common, so there is nothing to compare")
both = both[[row in common for row in both[shared].itertuples(index=False, name=None)]]

mean = both.groupby(["directory", "data", "suite", "model", "weights", "timestep"])["accuracy"].mean()
print(f"mean accuracy (%) over {len(common)} conditions that both have")
print((100 * mean).unstack("timestep").round(1).to_string())
