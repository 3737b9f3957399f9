"""A Ray of this machine that is small enough for tests."""

from pcbench.harness.ray_cluster import Cluster

TWO = Cluster(workers=2, cpus=0.5)
OF_TWO = {"engine": "ray", "ray_workers": 2, "cpus_per_worker": 0.5}  # as options of a run
