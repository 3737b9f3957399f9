"""Adversarial attacks by name: torchattacks' and Foolbox's, on the unrolled computation of a network with dynamics."""
