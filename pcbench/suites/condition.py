"""A condition: one way of perturbing images, at one strength."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Condition:
    """One row of a suite, and one axis of the results.

    Attributes:
        suite: name of the suite that it belongs to.
        kind: which perturbation makes it ("clean", "corruption", "noise", "attack", ...): see pcbench.perturbations.
        perturbation: name in the results ("fog", "gaussian-noise", "pgd-linf@t4").
        group: for group means ("noise", "blur", "weather", "digital", "attack", "clean").
        severity: 1-5 for a corruption, sigma for noise, epsilon for an attack, 0 for clean.
        params: what else the perturbation needs (JSON values).
    """

    suite: str
    kind: str
    perturbation: str
    group: str
    severity: float
    params: Mapping[str, object] = field(default_factory=dict)
