"""The perturbation kind "corruption": the corruptions of ImageNet-C and CIFAR-C as conditions of a suite."""

import json
from collections.abc import Mapping, Sequence

from torch import Tensor

from pcbench.errors import UserError, did_you_mean
from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier
from pcbench.perturbations.base import KINDS, Perturbation
from pcbench.perturbations.corruptions.constants import BENCHMARK_NAMES, CONSTANTS, GROUPS, NAMES, SEVERITIES
from pcbench.perturbations.corruptions.own import CORRUPTIONS

_BACKENDS = ("native", "reference")
_KEYS = {"kind", "names", "severities", "variant", "backend", "jpeg85", "frost_textures"}


class Corruption(Perturbation):
    """One corruption at one severity.

    A table of a suite file has the keys (all optional):
    - names: corruptions, or those of plug-ins; the 15 of the benchmark when absent.
    - severities: of 1-5; all five when absent.
    - variant: "auto" (default), "imagenet-c" or "cifar-c": the severity constants.
    - backend: "native" (default) or "reference".
    - jpeg85: true saves and loads each image as JPEG of quality 85, as the published ImageNet-C did; default false.
    - frost_textures: 5 (default) or 6: how many textures the native frost draws from.
    """

    @classmethod
    def conditions(cls, suite: str, table: Mapping[str, object]) -> list[Condition]:
        """One condition for each name and severity, names first. Raises UserError for what it does not know."""
        for unknown in sorted(set(table) - _KEYS):
            raise UserError(f"suite {suite}: a corruption table has no key {unknown!r}; {did_you_mean(unknown, _KEYS)}")
        names = _names(suite, table.get("names", list(BENCHMARK_NAMES)))
        severities = _choices(suite, "severity", table.get("severities", list(SEVERITIES)), SEVERITIES)
        variant = _choice(suite, "variant", table.get("variant", "auto"), ("auto", *CONSTANTS))
        backend = _choice(suite, "backend", table.get("backend", "native"), _BACKENDS)
        jpeg85 = table.get("jpeg85", False)
        if not isinstance(jpeg85, bool):
            raise UserError(f"suite {suite}: jpeg85 is true or false, not {jpeg85!r}")
        params = {"variant": variant, "backend": backend, "jpeg85": jpeg85}
        if "frost_textures" in table:  # absent means 5
            params["frost_textures"] = table["frost_textures"]
        return [
            Condition("corruption", name, group, float(str(severity)), params | more)
            for name, group, more in names
            for severity in severities
        ]

    @classmethod
    def for_model(cls, condition: Condition, model: TemporalClassifier, timesteps: int) -> list[Condition]:
        """The condition itself. Raises UserError: the reference backend is not installed."""
        from pcbench.perturbations.corruptions.engine import check_means

        params = condition.params
        check_means(str(params["backend"]), params.get("frost_textures", 5))
        return [condition]

    def on_uint8(self, images: Tensor, ids: list[str], seed: int) -> Tensor:
        """(B, H, W, 3) uint8 -> the same form, on the same device."""
        (made,) = self.all_on_uint8([self], images, ids, seed)
        return made

    @classmethod
    def family(cls, condition: Condition) -> str:
        """The severities of one corruption, made in one way."""
        return json.dumps([condition.perturbation, condition.params], sort_keys=True)

    @classmethod
    def all_on_uint8(
        cls, perturbations: Sequence[Perturbation], images: Tensor, ids: list[str], seed: int
    ) -> list[Tensor]:
        """Severities of one corruption: what does not depend on the severity is computed once."""
        from pcbench.perturbations.corruptions import corrupt_severities

        condition = perturbations[0].condition
        return corrupt_severities(
            images,
            condition.perturbation,
            [int(perturbation.condition.severity) for perturbation in perturbations],
            seed=seed,
            ids=ids,
            jpeg85=bool(condition.params["jpeg85"]),
            backend=str(condition.params["backend"]),
            variant=str(condition.params["variant"]),
            frost_textures=int(str(condition.params.get("frost_textures", 5))),
        )


def _names(suite: str, values: object) -> list[tuple[str, str, dict[str, object]]]:
    """Name, group and further parameters of each; a plug-in's source belongs to what decides the result."""
    if not isinstance(values, list) or not values:
        raise UserError(f"suite {suite}: a list of at least one corruption is wanted, not {values!r}")
    found: list[tuple[str, str, dict[str, object]]] = []
    for name in map(str, values):
        if name in NAMES:
            found.append((name, GROUPS[name], {}))
        elif name in CORRUPTIONS:
            own = CORRUPTIONS[name]
            found.append((name, own.group, {"source": own.source}))
        else:
            known = did_you_mean(name, [*NAMES, *CORRUPTIONS.names()])
            raise UserError(f"suite {suite}: no corruption {name!r}; {known}")
    return found


def _choice(suite: str, what: str, value: object, known: tuple[object, ...]) -> object:
    if value not in known or isinstance(value, bool):
        raise UserError(f"suite {suite}: no {what} {value!r}; {did_you_mean(str(value), map(str, known))}")
    return value


def _choices(suite: str, what: str, values: object, known: tuple[object, ...]) -> list[object]:
    if not isinstance(values, list) or not values:
        raise UserError(f"suite {suite}: a list of at least one {what} is wanted, not {values!r}")
    return [_choice(suite, what, value, known) for value in values]


KINDS.register("corruption", Corruption)
