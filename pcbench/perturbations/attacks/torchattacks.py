"""The adapter to torchattacks: Auto-PGD, FAB, Square, SPSA, Pixle, and AutoAttack put together from them.

What the adapter sees to:
- an attack puts the model back into the mode that its outermost module says; the victim's own flag follows the model,
  and the caller restores every module's mode.
- images a hair outside [0, 1] are treated as if they were inside, or refused, by version; the caller clamps.
- APGD, FAB and Square seed the global random state with a fixed number, AutoAttack with the time; here the seed is
  the image's key and the caller restores the state.
- its `AutoAttack` is not the official one: 10 steps of APGD and FAB in place of 100, a targeted run for every class
  in place of 9. `autoattack` here is put together from its parts as the official standard version has them
  (Croce and Hein, 2020): APGD-CE, targeted APGD on the DLR loss and targeted FAB (100 steps, 9 targets each), Square
  (5000 queries), each on the images that the ones before left.
- DLR losses need more than two classes (three; four when targeted); FAB and APGD-T need as many wrong classes as
  they have targets.
- SPSA never asks for its target labels: targets are handed over in place of the labels, which the others read so too.
- Pixle mixes up rows and columns: it takes square images only.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from pcbench.errors import UserError
from pcbench.perturbations.attacks.attack import ATTACKS, Attack, Problem
from pcbench.perturbations.attacks.norms import overshoot, project

_NORMS = {"linf": "Linf", "l2": "L2"}


def _targets(problem: Problem) -> int:
    """The number of classes to name, since torchattacks aims at n_classes - 1 of the most likely wrong ones."""
    wrong = problem.victim.model.num_classes - 1
    return min(problem.integer("targets"), wrong) + 1


def _apgd(problem: Problem, loss: str) -> Mapping[str, object]:
    return {
        "norm": _NORMS[problem.norm],
        "eps": problem.epsilon,
        "steps": problem.integer("steps"),
        "n_restarts": problem.integer("restarts"),
        "seed": problem.keys[0],
        "loss": loss,
    }


def _apgd_targeted(problem: Problem) -> Mapping[str, object]:
    arguments = dict(_apgd(problem, ""))
    del arguments["loss"]
    return {**arguments, "n_classes": _targets(problem)}


def _fab(problem: Problem) -> Mapping[str, object]:
    return {**_apgd_targeted(problem), "multi_targeted": True}


def _square(problem: Problem) -> Mapping[str, object]:
    return {
        "norm": _NORMS[problem.norm],
        "eps": problem.epsilon,
        "n_queries": problem.integer("queries"),
        "n_restarts": problem.integer("restarts"),
        "seed": problem.keys[0],
    }


def _spsa(problem: Problem) -> Mapping[str, object]:
    return {
        "eps": problem.epsilon,
        "delta": problem.number("delta"),
        "lr": problem.number("relative_step") * problem.epsilon,
        "nb_iter": problem.integer("steps"),
        "nb_sample": problem.integer("queries"),
        "max_batch_size": min(16, problem.integer("queries")),
    }


def _pixle_refuses(epsilon: float, size: tuple[int, int, int], options: Mapping[str, object]) -> str | None:
    _, height, width = size
    if height != width:
        return f"it takes square images; these have {height} x {width} pixels"
    if int(epsilon * height * width) // max(int(str(options["restarts"])), 1) > 0:
        return None
    return (
        f"epsilon {epsilon:g} of {height * width} pixels is less than one pixel for each of its "
        f"{options['restarts']} restarts"
    )


def _pixle(problem: Problem) -> Mapping[str, object]:
    channels, height, width = problem.images.shape[1:]
    reason = _pixle_refuses(problem.epsilon, (channels, height, width), problem.options)
    if reason is not None:
        raise UserError(f"attack pixle: {reason}")
    restarts = problem.integer("restarts")
    size = (1, math.isqrt(int(problem.epsilon * height * width) // max(restarts, 1)))
    return {
        "x_dimensions": size,
        "y_dimensions": size,
        "restarts": restarts,
        "max_iterations": problem.integer("steps"),
    }


def _library(name: str, arguments: Callable[[Problem], Mapping[str, object]]) -> Callable[[Problem], Tensor]:
    def run(problem: Problem) -> Tensor:
        attack: Any = getattr(import_module("torchattacks"), name)(problem.victim, **arguments(problem))
        attack.set_device(problem.images.device)
        labels = problem.labels
        if problem.targets is not None:
            attack.set_mode_targeted_by_label(quiet=True)
            labels = problem.targets
        found: Tensor = attack(problem.images, labels)
        return found.detach()

    return run


_AUTOATTACK: dict[str, dict[str, str]] = {
    "apgd-ce": {"steps": "steps"},
    "apgd-t": {"steps": "steps", "targets": "targets"},
    "fab": {"steps": "steps", "targets": "targets"},
    "square": {"queries": "queries"},
}


def _autoattack(problem: Problem) -> Tensor:
    """Each part in turn, until one fools the victim within the ball; the image as it is when none does."""
    for name, options in _AUTOATTACK.items():
        part = ATTACKS[name]
        if problem.victim.model.num_classes < part.classes:
            continue
        given = {theirs: problem.options[ours] for theirs, ours in options.items()}
        found = part.run(replace(problem, options=part.with_options(given)))
        if part.minimal:
            found = overshoot(found, problem.images)
        found = project(found, problem.images, problem.epsilon, problem.norm)
        with torch.no_grad():
            if (problem.victim(found).argmax(-1) != problem.labels).all():
                return found
    return problem.images


for _attack in (
    Attack(
        "apgd-ce",
        "Auto-PGD on the cross-entropy: step sizes set by itself (Croce and Hein, 2020)",
        "torchattacks",
        "white-box",
        ("linf", "l2"),
        _library("APGD", lambda problem: _apgd(problem, "ce")),
        {"steps": 100, "restarts": 1},
    ),
    Attack(
        "apgd-dlr",
        "Auto-PGD on the difference-of-logits ratio (Croce and Hein, 2020)",
        "torchattacks",
        "white-box",
        ("linf", "l2"),
        _library("APGD", lambda problem: _apgd(problem, "dlr")),
        {"steps": 100, "restarts": 1},
        classes=3,
    ),
    Attack(
        "apgd-t",
        "Auto-PGD on the targeted difference-of-logits ratio, for the most likely wrong classes",
        "torchattacks",
        "white-box",
        ("linf", "l2"),
        _library("APGDT", _apgd_targeted),
        {"steps": 100, "restarts": 1, "targets": 9},
        classes=4,
    ),
    Attack(
        "fab",
        "fast adaptive boundary, for the most likely wrong classes (Croce and Hein, 2020)",
        "torchattacks",
        "white-box",
        ("linf", "l2"),
        _library("FAB", _fab),
        {"steps": 100, "restarts": 1, "targets": 9},
        minimal=True,
    ),
    Attack(
        "square",
        "random search with squares, knows the logits alone (Andriushchenko et al., 2020)",
        "torchattacks",
        "gradient-free",
        ("linf", "l2"),
        _library("Square", _square),
        {"queries": 5000, "restarts": 1},
        gradients=False,
        targeted=True,
    ),
    Attack(
        "spsa",
        "gradients from differences along random signs, knows the logits alone (Uesato et al., 2018)",
        "torchattacks",
        "gradient-free",
        ("linf",),
        _library("SPSA", _spsa),
        {"steps": 20, "queries": 64, "delta": 0.01, "relative_step": 0.25},
        gradients=False,
        targeted=True,
    ),
    Attack(
        "pixle",
        "rearranges pixels (Pomponi et al., 2022); epsilon is the share of pixels that may change",
        "torchattacks",
        "gradient-free",
        ("l0",),
        _library("Pixle", _pixle),
        {"restarts": 10, "steps": 10},
        gradients=False,
        targeted=True,
        refuses=_pixle_refuses,
    ),
    Attack(
        "autoattack",
        "AutoAttack's standard version: APGD-CE, APGD-T, FAB-T and Square, each on what the ones before left",
        "torchattacks",
        "white-box",
        ("linf", "l2"),
        _autoattack,
        {"steps": 100, "targets": 9, "queries": 5000},
    ),
):
    ATTACKS.register(_attack.name, _attack)
