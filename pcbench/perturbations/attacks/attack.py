"""What an attack is: one literal with the function that runs it, and what it is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from pcbench.errors import UserError, did_you_mean
from pcbench.perturbations.attacks.victim import Victim
from pcbench.registry import Registry, instance_of

Norm = Literal["linf", "l2", "l0"]
Role = Literal["white-box", "single-step", "gradient-free", "hard-label"]


@dataclass(frozen=True)
class Problem:
    """What an attack is given.

    Attributes:
        victim: the classifier to fool, images -> (B, classes); its labels are those of the images.
        images: (B, C, H, W) in [0, 1]. B is 1 unless the attack is `batched`.
        labels: (B,) int64.
        targets: (B,) int64, the classes to reach, or None for an untargeted attack.
        norm: in which the perturbation is measured.
        epsilon: its largest value.
        options: the attack's options, defaults filled in.
        keys: B keys (integers) for random numbers, one for each image.
    """

    victim: Victim
    images: Tensor
    labels: Tensor
    targets: Tensor | None
    norm: str
    epsilon: float
    options: Mapping[str, object]
    keys: list[int]

    def integer(self, option: str) -> int:
        """The value of an option that is a whole number."""
        return int(str(self.options[option]))

    def number(self, option: str) -> float:
        """The value of an option that is a number."""
        return float(str(self.options[option]))


@dataclass(frozen=True)
class Attack:
    """A registered attack.

    Attributes:
        name: what users type.
        description: one line.
        library: which package runs it.
        role: what it needs to know of the network, for the believability report.
        norms: it can be measured in, the default first.
        run: images of the same shape out; the caller enforces the norm and [0, 1].
        options: names and default values of its options.
        gradients: whether it needs the network's gradients.
        targeted: whether it can be aimed at a class.
        batched: whether it can take several images at once, each with random numbers of its own. Others are given one
            image at a time, with the global random state set for it.
        minimal: whether it looks for the smallest perturbation, so that its results lie on a boundary.
        classes: the smallest number of classes that it needs.
        refuses: why it cannot work at an epsilon, on images of a size (C, H, W), with some options; None when it can.
    """

    name: str
    description: str
    library: str
    role: Role
    norms: tuple[Norm, ...]
    run: Callable[[Problem], Tensor]
    options: Mapping[str, object] = field(default_factory=dict)
    gradients: bool = True
    targeted: bool = False
    batched: bool = False
    minimal: bool = False
    classes: int = 2
    refuses: Callable[[float, tuple[int, int, int], Mapping[str, object]], str | None] = lambda *_: None

    def with_options(self, given: Mapping[str, object]) -> dict[str, object]:
        """The options, the given ones before the defaults.

        Raises:
            UserError: an unknown option, or a value of another kind than the default's.
        """
        for name, value in given.items():
            if name not in self.options:
                raise UserError(f"attack {self.name} has no option {name!r}; {did_you_mean(name, self.options)}")
            default = self.options[name]
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(default, bool):
                wrong = not isinstance(value, bool)
            elif isinstance(default, int):
                wrong = not numeric or value != int(value)  # type: ignore[call-overload]  # numeric says it is a number
            else:
                wrong = not numeric
            if wrong:
                raise UserError(
                    f"attack {self.name}: {name} is {value!r}; like the default, {default!r}, it is a "
                    f"{'truth value' if isinstance(default, bool) else 'number'}"
                )
            if numeric and not isinstance(default, bool) and float(str(value)) < 0:
                raise UserError(f"attack {self.name}: {name} is {value}; it must not be negative")
        return {**self.options, **given}


ATTACKS = Registry[Attack](
    "attack", package="pcbench.perturbations.attacks", entry_points="pcbench.attacks", adopt=instance_of(Attack)
)
