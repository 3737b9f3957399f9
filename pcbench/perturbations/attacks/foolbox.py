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
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

from pcbench.perturbations.attacks.attack import ATTACKS, Attack, Norm, Problem, Role


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


def _gradient_steps(
    name: str, description: str, stem: str, norms: tuple[Norm, ...], role: Role = "white-box", **options: object
) -> Attack:
    """An attack of Foolbox's gradient-descent family; `stem`: its classes' name after the norm's."""

    def run(problem: Problem) -> Tensor:
        foolbox, eagerpy = import_module("foolbox"), import_module("eagerpy")

        steps = problem.integer("steps")
        relative = problem.number("relative_step") or min(1.0, 2.5 / max(steps, 1))
        extra = {"momentum": problem.number("momentum")} if "momentum" in problem.options else {}
        attack = getattr(foolbox.attacks, problem.norm.capitalize() + stem)(
            rel_stepsize=relative, steps=steps, random_start=bool(problem.options["random_start"]), **extra
        )
        attack.get_random_start = lambda x0, epsilon: eagerpy.astensor(
            random_start(x0.raw, epsilon, problem.norm, problem.keys)
        )
        found: Tensor = attack.run(_wrapped(problem), problem.images, _criterion(problem), epsilon=problem.epsilon)
        return found

    if role == "white-box":
        description += "; relative_step of 0 means 2.5 epsilon / steps"
    defaults = {"steps": 10, "relative_step": 0.0, "random_start": False} | options
    return Attack(name, description, "foolbox", role, norms, run, defaults, targeted=True, batched=True)


def _minimal(
    name: str,
    description: str,
    stem: str,
    norms: tuple[Norm, ...],
    options: dict[str, tuple[str, object]],
    role: Role = "white-box",
    *,
    norm_by: Literal["class", "constraint", "nothing"] = "class",
    targeted: bool = False,
) -> Attack:
    """An attack of Foolbox's that looks for the smallest perturbation.

    Args:
        name: see Attack.
        description: see Attack.
        stem: its class, without the norm.
        norms: see Attack.
        options: by our name, Foolbox's and the default.
        role: see Attack.
        norm_by: how the class is told the norm: by its name's start, by an argument, or not at all.
        targeted: see Attack.
    """

    def run(problem: Problem) -> Tensor:
        foolbox = import_module("foolbox")

        arguments: dict[str, Any] = {theirs: problem.options[ours] for ours, (theirs, _) in options.items()}
        if norm_by == "constraint":
            arguments["constraint"] = problem.norm
        start = problem.norm.capitalize() if norm_by == "class" else ""
        attack = getattr(foolbox.attacks, start + stem)(**arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "failed to draw": said by the exception below
            try:
                found: Tensor = attack.run(_wrapped(problem), problem.images, _criterion(problem))
            except ValueError as error:
                if "init_attack failed" not in str(error):
                    raise
                return problem.images
        return found

    defaults = {ours: default for ours, (_, default) in options.items()}
    gradients = role == "white-box"
    return Attack(
        name, description, "foolbox", role, norms, run, defaults, gradients=gradients, targeted=targeted, minimal=True
    )


_BIM, _PGD = "BasicIterativeAttack", "ProjectedGradientDescentAttack"
_BOTH: tuple[Norm, ...] = ("linf", "l2")

for _attack in (
    _gradient_steps(
        "fgsm",
        "one step of the size of epsilon along the gradient's sign (Goodfellow et al., 2015)",
        _BIM,
        _BOTH,
        "single-step",
        steps=1,
        relative_step=1.0,
    ),
    _gradient_steps("bim", "basic iterative method (Kurakin et al., 2017)", _BIM, _BOTH),
    _gradient_steps(
        "pgd-linf",
        "projected gradient descent from a random start (Madry et al., 2018)",
        _PGD,
        ("linf",),
        steps=40,
        random_start=True,
    ),
    _gradient_steps(
        "pgd-l2",
        "projected gradient descent in the Euclidean norm",
        _PGD,
        ("l2",),
        steps=40,
        random_start=True,
    ),
    _gradient_steps(
        "mi-fgsm",
        "momentum iterative method (Dong et al., 2018)",
        "MomentumIterativeFastGradientMethod",
        _BOTH,
        momentum=1.0,
    ),
    _minimal(
        "deepfool",
        "steps to the nearest linearised boundary (Moosavi-Dezfooli et al., 2016)",
        "DeepFoolAttack",
        ("l2", "linf"),
        {"steps": ("steps", 50), "candidates": ("candidates", 10), "overshoot": ("overshoot", 0.02)},
    ),
    _minimal(
        "cw",
        "Carlini and Wagner's L2 attack, with the search for its constant (2017)",
        "CarliniWagnerAttack",
        ("l2",),
        {
            "steps": ("steps", 100),
            "searches": ("binary_search_steps", 5),
            "step": ("stepsize", 0.01),
            "confidence": ("confidence", 0.0),
            "constant": ("initial_const", 0.1),
        },
        targeted=True,
    ),
    _minimal(
        "hop-skip-jump",
        "knows the predicted class alone (Chen et al., 2020)",
        "HopSkipJumpAttack",
        _BOTH,
        {"steps": ("steps", 20), "queries": ("initial_gradient_eval_steps", 50)},
        "hard-label",
        norm_by="constraint",
    ),
    _minimal(
        "boundary",
        "walks along the boundary, knows the predicted class alone (Brendel et al., 2018)",
        "BoundaryAttack",
        ("l2",),
        {"steps": ("steps", 2000)},
        "hard-label",
        norm_by="nothing",
    ),
):
    ATTACKS.register(_attack.name, _attack)
