"""The adapter to torchattacks (optional): any attack of it, as "torchattacks:PGD".

What it sees to: APGD, FAB and Square seed the global random state with a fixed number, AutoAttack with the time; here
the seed is the image's own. Its AutoAttack is not the official one (10 steps, a target for every class): `autoattack`
is.
"""

from typing import Any

import torch
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

_OURS = ("model", "eps", "norm", "seed", "device", "verbose", "n_classes")
_NORMS = {"linf": "Linf", "l2": "L2"}


def find(name: str) -> Attack:
    """The attack of a class of torchattacks. Raises UserError."""
    package = require("torchattacks", "attacks", "an attack of torchattacks", "torchattacks")
    known = [each for each in package.__all__ if inspectable(getattr(package, each, None))]
    if name not in known:
        raise no_such("torchattacks", name, known)
    made: Any = getattr(package, name)

    def craft(
        classifier: Classifier, image: Tensor, label: Tensor, target: Tensor | None, plan: Plan, options: Options
    ) -> Tensor:
        ours = {"eps": plan.ball.epsilon, "norm": _NORMS.get(plan.ball.norm), "seed": torch.initial_seed() % 2**31}
        ours["n_classes"] = classifier.model.num_classes
        attack = made(classifier, **accepted(made.__init__, ours), **options)
        attack.set_device(image.device)
        if target is not None:
            if "targeted" not in attack.supported_mode:
                raise UserError(f"attack torchattacks:{name} cannot aim at a class")
            attack.set_mode_targeted_by_label(quiet=True)
        found: Tensor = attack(image, label if target is None else target)
        return found

    return Attack(
        f"torchattacks:{name}",
        f"{name} of torchattacks, one image at a time",
        one_by_one(craft),
        norms=norms_of(name),
        options=options_of(made.__init__, _OURS),
        knowledge="gradient-free" if name in ("Square", "SPSA", "OnePixel", "Pixle", "GN") else "white-box",
        targeted=True,
        ours=False,
    )


def inspectable(value: object) -> bool:
    """Whether a name of the package is an attack's class."""
    return isinstance(value, type)


LIBRARIES.register("torchattacks", find)
