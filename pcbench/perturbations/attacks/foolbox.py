"""The adapter to Foolbox: gradient descent in a norm ball, and minimal perturbations.

What the adapter sees to:
- bounds and preprocessing belong to Foolbox's model wrapper: always [0, 1] and none, because the networks here
  normalise inside. The wrapper would also move the model to a GPU that it finds: it is told the device.
- it refuses (by assertion) images a hair outside [0, 1]; the caller clamps.
- random starts are drawn for the whole batch from the global random state; here each image's comes from its own key.
- an attack that finds no starting point raises; here it leaves the image as it is.
"""

import math
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from pcbench.perturbations.attacks.attack import ATTACKS, Attack, Problem


def _wrapped(problem: Problem) -> Any:
    foolbox = import_module("foolbox")
    return foolbox.PyTorchModel(problem.victim, bounds=(0, 1), device=problem.images.device)


def _criterion(problem: Problem) -> Any:
    foolbox = import_module("foolbox")
    if problem.targets is None:
        return foolbox.criteria.Misclassification(problem.labels)
    return foolbox.criteria.TargetedMisclassification(problem.targets)


def random_start(images: Tensor, epsilon: float, norm: str, keys: list[int]) -> Tensor:
    """Uniform in the ball around each image, before clipping to [0, 1]; image i's draw follows from keys[i] alone.

    Args:
        images: (B, C, H, W).
        epsilon: radius.
        norm: "linf" or "l2".
        keys: B keys.
    """
    moves = []
    for key in keys:
        generator = torch.Generator().manual_seed(key)
        if norm == "linf":
            moves.append(torch.rand(images.shape[1:], generator=generator) * 2 - 1)
        else:  # a direction from the normal distribution, a radius r with density proportional to r^(n - 1)
            direction = torch.randn(images.shape[1:], generator=generator)
            radius = torch.rand((), generator=generator) ** (1 / math.prod(images.shape[1:]))
            moves.append(direction / direction.norm() * radius)
    return images + epsilon * torch.stack(moves).to(images)


def _descent(linf: str, l2: str) -> Callable[[Problem], Tensor]:
    """An attack of Foolbox's gradient-descent family: the names of its classes by norm."""

    def run(problem: Problem) -> Tensor:
        foolbox, eagerpy = import_module("foolbox"), import_module("eagerpy")

        options = dict(problem.options)
        steps = problem.integer("steps")
        relative = problem.number("relative_step") or min(1.0, 2.5 / max(steps, 1))
        chosen = {"linf": linf, "l2": l2}[problem.norm]
        extra = {"momentum": problem.number("momentum")} if "momentum" in options else {}
        attack = getattr(foolbox.attacks, chosen)(
            rel_stepsize=relative, steps=steps, random_start=bool(options["random_start"]), **extra
        )
        attack.get_random_start = lambda x0, epsilon: eagerpy.astensor(
            random_start(x0.raw, epsilon, problem.norm, problem.keys)
        )
        found: Tensor = attack.run(_wrapped(problem), problem.images, _criterion(problem), epsilon=problem.epsilon)
        return found

    return run


def _minimal(
    linf: str | None, l2: str | None, names: dict[str, str], norm_option: bool = False
) -> Callable[[Problem], Tensor]:
    """An attack that looks for the smallest perturbation: its classes by norm, and its options by ours."""

    def run(problem: Problem) -> Tensor:
        foolbox = import_module("foolbox")

        chosen = {"linf": linf, "l2": l2}[problem.norm]
        options: dict[str, Any] = {theirs: problem.options[ours] for ours, theirs in names.items()}
        if norm_option:
            options["constraint"] = problem.norm
        attack = getattr(foolbox.attacks, str(chosen))(**options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "failed to draw": said by the exception below
            try:
                found: Tensor = attack.run(_wrapped(problem), problem.images, _criterion(problem))
            except ValueError as error:
                if "init_attack failed" not in str(error):
                    raise
                return problem.images
        return found

    return run


_PGD = _descent("LinfProjectedGradientDescentAttack", "L2ProjectedGradientDescentAttack")
_BIM = _descent("LinfBasicIterativeAttack", "L2BasicIterativeAttack")
_MOMENTUM = _descent("LinfMomentumIterativeFastGradientMethod", "L2MomentumIterativeFastGradientMethod")
_STEP = "relative_step of 0 means 2.5 epsilon / steps"

for _attack in (
    Attack(
        "fgsm",
        "one step of the size of epsilon along the gradient's sign (Goodfellow et al., 2015)",
        "foolbox",
        "single-step",
        ("linf", "l2"),
        _BIM,
        {"steps": 1, "relative_step": 1.0, "random_start": False},
        targeted=True,
        batched=True,
    ),
    Attack(
        "bim",
        f"basic iterative method (Kurakin et al., 2017); {_STEP}",
        "foolbox",
        "white-box",
        ("linf", "l2"),
        _BIM,
        {"steps": 10, "relative_step": 0.0, "random_start": False},
        targeted=True,
        batched=True,
    ),
    Attack(
        "pgd-linf",
        f"projected gradient descent from a random start (Madry et al., 2018); {_STEP}",
        "foolbox",
        "white-box",
        ("linf",),
        _PGD,
        {"steps": 40, "relative_step": 0.0, "random_start": True},
        targeted=True,
        batched=True,
    ),
    Attack(
        "pgd-l2",
        f"projected gradient descent in the Euclidean norm; {_STEP}",
        "foolbox",
        "white-box",
        ("l2",),
        _PGD,
        {"steps": 40, "relative_step": 0.0, "random_start": True},
        targeted=True,
        batched=True,
    ),
    Attack(
        "mi-fgsm",
        f"momentum iterative method (Dong et al., 2018); {_STEP}",
        "foolbox",
        "white-box",
        ("linf", "l2"),
        _MOMENTUM,
        {"steps": 10, "relative_step": 0.0, "random_start": False, "momentum": 1.0},
        targeted=True,
        batched=True,
    ),
    Attack(
        "deepfool",
        "steps to the nearest linearised boundary (Moosavi-Dezfooli et al., 2016)",
        "foolbox",
        "white-box",
        ("l2", "linf"),
        _minimal(
            "LinfDeepFoolAttack",
            "L2DeepFoolAttack",
            {"steps": "steps", "candidates": "candidates", "overshoot": "overshoot"},
        ),
        {"steps": 50, "candidates": 10, "overshoot": 0.02},
        minimal=True,
    ),
    Attack(
        "cw",
        "Carlini and Wagner's L2 attack, with the search for its constant (2017)",
        "foolbox",
        "white-box",
        ("l2",),
        _minimal(
            None,
            "L2CarliniWagnerAttack",
            {
                "steps": "steps",
                "searches": "binary_search_steps",
                "step": "stepsize",
                "confidence": "confidence",
                "constant": "initial_const",
            },
        ),
        {"steps": 100, "searches": 5, "step": 0.01, "confidence": 0.0, "constant": 0.1},
        minimal=True,
        targeted=True,
    ),
    Attack(
        "hop-skip-jump",
        "knows the predicted class alone (Chen et al., 2020)",
        "foolbox",
        "hard-label",
        ("linf", "l2"),
        _minimal(
            "HopSkipJumpAttack",
            "HopSkipJumpAttack",
            {"steps": "steps", "queries": "initial_gradient_eval_steps"},
            norm_option=True,
        ),
        {"steps": 20, "queries": 50},
        minimal=True,
        gradients=False,
    ),
    Attack(
        "boundary",
        "walks along the boundary, knows the predicted class alone (Brendel et al., 2018)",
        "foolbox",
        "hard-label",
        ("l2",),
        _minimal(None, "BoundaryAttack", {"steps": "steps"}),
        {"steps": 2000},
        minimal=True,
        gradients=False,
    ),
):
    ATTACKS.register(_attack.name, _attack)
