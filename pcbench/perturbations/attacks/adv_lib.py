"""The adapter to adv-lib (optional): any attack of it, as "adv-lib:alma"."""

import inspect
from typing import Any

from torch import Tensor

from pcbench.errors import UserError
from pcbench.extras import require
from pcbench.perturbations.attacks.attack import Attack, Options
from pcbench.perturbations.attacks.engine import Plan
from pcbench.perturbations.attacks.libraries import (
    LIBRARIES,
    Classifier,
    accepted,
    no_such,
    norms_of,
    one_by_one,
    options_of,
)

_OURS = ("model", "inputs", "labels", "eps", "norm", "distance", "targeted", "callback")


def find(name: str) -> Attack:
    """The attack of a function of adv-lib. Raises UserError."""
    package = require("adv_lib.attacks", None, "an attack of adv-lib", "adv-lib")
    known = [each for each, made in vars(package).items() if inspect.isfunction(made)]
    if name not in known:
        raise no_such("adv-lib", name, known)
    function: Any = getattr(package, name)

    def craft(
        classifier: Classifier, image: Tensor, label: Tensor, target: Tensor | None, plan: Plan, options: Options
    ) -> Tensor:
        norm = plan.ball.norm
        number = {"linf": float("inf"), "l2": 2.0, "l0": 0.0}[norm]
        wants_number = inspect.signature(function).parameters.get("norm")
        ours: dict[str, object] = {"eps": plan.ball.epsilon, "distance": norm, "targeted": target is not None}
        ours["norm"] = number if wants_number is not None and wants_number.annotation is float else norm
        if target is not None and "targeted" not in inspect.signature(function).parameters:
            raise UserError(f"attack adv-lib:{name} cannot aim at a class")
        goal = label if target is None else target
        found: Tensor = function(classifier, image, goal, **accepted(function, ours), **options)
        return found

    return Attack(
        f"adv-lib:{name}",
        f"{name} of adv-lib, one image at a time",
        one_by_one(craft),
        norms=norms_of(name),
        options=options_of(function, _OURS),
        targeted=True,
        ours=False,
    )


LIBRARIES.register("adv-lib", find)
