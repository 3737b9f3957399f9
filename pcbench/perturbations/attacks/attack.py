"""What an attack is: one literal with what it needs, what it can be told, and how it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pcbench.errors import UserError, did_you_mean
from pcbench.perturbations.attacks.engine import Found, Method, Plan, run
from pcbench.registry import Registry, instance_of

Norm = Literal["linf", "l2", "l0"]
Knowledge = Literal["white-box", "single-step", "gradient-free", "hard-label"]
Option = int | float | bool | str
Options = Mapping[str, Option]


@dataclass(frozen=True)
class Attack:
    """A registered attack.

    Attributes:
        name: what users type.
        description: one line.
        run: attacks the images of a plan with some options.
        norms: it can be measured in, the default first.
        losses: that it can climb, the default first; () where it has no choice (what it climbs is its own).
        options: names and default values of its options.
        choices: the values of options that are texts; any where it names none.
        knowledge: what it needs to know of the network.
        targeted: whether it can be made to aim at one class.
        classes: the smallest number of classes that it needs.
        ours: whether it runs on the engine; others take one image at a time, from a library.
        refuses: why it cannot work at an epsilon, on images of a size (C, H, W), with some options; None when it can.
    """

    name: str
    description: str
    run: Callable[[Plan, Options], Found]
    norms: tuple[Norm, ...] = ("linf", "l2")
    losses: tuple[str, ...] = ()
    options: Options = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    knowledge: Knowledge = "white-box"
    targeted: bool = False
    classes: int = 2
    ours: bool = True
    refuses: Callable[[float, tuple[int, int, int], Options], str | None] = lambda *_: None

    @property
    def gradients(self) -> bool:
        """Whether it needs the network's gradients."""
        return self.knowledge in ("white-box", "single-step")

    def with_options(self, given: Mapping[str, object]) -> dict[str, Option]:
        """The options, the given ones before the defaults.

        Raises:
            UserError: an unknown option, or a value of another kind than the default's.
        """
        checked: dict[str, Option] = dict(self.options)
        for name, value in given.items():
            if name not in self.options:
                raise UserError(f"attack {self.name} has no option {name!r}; {did_you_mean(name, self.options)}")
            checked[name] = self._checked(name, value)
        return checked

    def _checked(self, name: str, value: object) -> Option:
        default = self.options[name]
        if isinstance(default, str):
            if name in self.choices and value not in self.choices[name]:
                known = did_you_mean(str(value), self.choices[name])
                raise UserError(f"attack {self.name}: {name} is {value!r}; {known}")
            return str(value)
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise self._other_kind(name, value, "truth value")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._other_kind(name, value, "number")
        if value < 0:
            raise UserError(f"attack {self.name}: {name} is {value}; it must not be negative")
        if not isinstance(default, int):
            return float(value)
        if value != int(value):
            raise self._other_kind(name, value, "whole number")
        return int(value)

    def _other_kind(self, name: str, value: object, kind: str) -> UserError:
        return UserError(
            f"attack {self.name}: {name} is {value!r}; like the default, {self.options[name]!r}, it is a {kind}"
        )


def engine(make: Callable[[Options], Method]) -> Callable[[Plan, Options], Found]:
    """The `run` of an attack that is one method of the engine."""
    return lambda plan, options: run(make(options), plan)


ATTACKS = Registry[Attack](
    "attack", package="pcbench.perturbations.attacks", entry_points="pcbench.attacks", adopt=instance_of(Attack)
)
