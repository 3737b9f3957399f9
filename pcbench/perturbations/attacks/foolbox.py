"""The adapter to Foolbox (optional): any attack of it, as "foolbox:LinfPGD".

What it sees to: bounds and preprocessing belong to Foolbox's model wrapper, which would also move the model to a GPU
that it finds; an attack that finds no starting point raises, and leaves the image as it is here.
"""

import inspect
import warnings
from typing import Any

from torch import Tensor

from pcbench.extras import require
from pcbench.perturbations.attacks.attack import Attack, Knowledge, Options
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

_KNOWLEDGE: dict[str, Knowledge] = {
    "BoundaryAttack": "hard-label",
    "HopSkipJumpAttack": "hard-label",
    "PointwiseAttack": "hard-label",
    "GenAttack": "gradient-free",
}


def find(name: str) -> Attack:
    """The attack of a class of Foolbox. Raises UserError."""
    package = require("foolbox.attacks", "attacks", "an attack of foolbox", "foolbox")
    foolbox = require("foolbox", "attacks", "an attack of foolbox", "foolbox")
    known = [each for each, made in vars(package).items() if isinstance(made, type) and not inspect.isabstract(made)]
    if name not in known:
        raise no_such("foolbox", name, known)
    made: Any = getattr(package, name)

    def craft(
        classifier: Classifier, image: Tensor, label: Tensor, target: Tensor | None, plan: Plan, options: Options
    ) -> Tensor:
        attack = made(**accepted(made.__init__, {"constraint": plan.ball.norm}), **options)
        model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device=image.device)
        criteria = foolbox.criteria
        goal = criteria.Misclassification(label) if target is None else criteria.TargetedMisclassification(target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "failed to draw": said by the exception below
            try:
                _, found, _ = attack(model, image, goal, epsilons=plan.ball.epsilon)
            except ValueError as error:
                if "init_attack failed" not in str(error):
                    raise
                return image
        result: Tensor = found
        return result

    return Attack(
        f"foolbox:{name}",
        f"{name} of Foolbox, one image at a time",
        one_by_one(craft),
        norms=norms_of(name),
        options=options_of(made.__init__, ("constraint",)),
        knowledge=_KNOWLEDGE.get(name, "white-box"),
        targeted=True,
        ours=False,
    )


LIBRARIES.register("foolbox", find)
