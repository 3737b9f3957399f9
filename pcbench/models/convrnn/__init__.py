"""Convolutional recurrent networks: cells, graphs as data, and the unrolled network.

Nayebi et al. 2018 (arXiv 1807.00053) and 2022 (Neural Computation 34:1652), from their descriptions.
"""
