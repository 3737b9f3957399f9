"""A Ray of this machine that is small enough for tests."""

from pcbench.harness.ray_cluster import Cluster

TWO = Cluster(workers=2, cpus=0.5)
