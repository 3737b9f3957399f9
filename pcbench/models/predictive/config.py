"""What makes a network predictive: the field's TOML format (Predify's), read, checked and written."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pcbench.errors import UserError, did_you_mean
from pcbench.toml import read_toml

Scaling = Literal["none", "kc"]

_MODULE = r"(\w+|\[\d+\])(\[\d+\]|\.\w+)*"  # a Sequential's own modules are "[3]" or "3"
_Rate = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HyperparametersTable(_Strict):
    """How strongly each term of the update acts: the table `hyperparameters` of a PCoder in a file."""

    feedforward: _Rate = 0.3
    feedback: _Rate = 0.3
    pc: Annotated[float, Field(allow_inf_nan=False)] = 0.01


class PCoderTable(_Strict):
    """One `[[pcoders]]` table.

    Attributes:
        module: where the backbone is cut, e.g. "features[3]" or "blocks[0].conv".
        predictor: an expression in layers of torch.nn (see pcbench.models.predictive.expressions); None for the
            default: upsampling by the ratio of the sizes where they differ, then a 3x3 transposed convolution.
        hyperparameters: of this PCoder.
    """

    module: Annotated[str, StringConstraints(pattern=f"^{_MODULE}$", max_length=200)]
    predictor: str | None = None
    hyperparameters: HyperparametersTable = HyperparametersTable()

    @property
    def path(self) -> str:
        """The module's path as torch writes it: "features.3"."""
        return re.sub(r"\[(\d+)\]", r".\1", self.module).removeprefix(".")


class PredictiveConfig(_Strict):
    """A whole file.

    Attributes:
        name: of the network.
        imports: Python import lines, as the format has them; kept, never executed.
        gradient_scaling: scale the error gradient by K / sqrt(C) (scaling "kc") or not ("none").
        shared_hyperparameters: the first PCoder's hyperparameters hold for all.
        input_size: (channels, height, width) of the input that predictors are made for.
        pcoders: in order, the first being next to the input.
    """

    name: str = "PredictiveNet"
    imports: tuple[str, ...] = ()
    gradient_scaling: bool = False
    shared_hyperparameters: bool = False
    input_size: tuple[
        Annotated[int, Field(gt=0, le=4096)], Annotated[int, Field(gt=0, le=4096)], Annotated[int, Field(gt=0, le=4096)]
    ] = (3, 224, 224)
    pcoders: Annotated[tuple[PCoderTable, ...], Field(min_length=1, max_length=256)]

    @property
    def scaling(self) -> Scaling:
        """Name of the scaling of the error gradient."""
        return "kc" if self.gradient_scaling else "none"

    def structure(self) -> dict[str, object]:
        """What feedback weights depend on, as plain values: where the network is cut, and the predictors."""
        return {
            "input_size": list(self.input_size),
            "pcoders": [[pcoder.path, pcoder.predictor or "default"] for pcoder in self.pcoders],
        }

    def hyperparameters(self) -> list["Hyperparameters"]:
        """Those of each PCoder, as they act. Raises UserError when feedforward and feedback leave no memory."""
        first = self.pcoders[0].hyperparameters
        tables = [first if self.shared_hyperparameters else pcoder.hyperparameters for pcoder in self.pcoders]
        values = [Hyperparameters(table.feedforward, table.feedback, table.pc) for table in tables]
        check_memory(values)
        return values


@dataclass(frozen=True)
class Hyperparameters:
    """Weights of the terms of one PCoder's update. The last PCoder has no feedback; its value is not used.

    Attributes:
        feedforward: of the drive from below, in [0, 1].
        feedback: of the prediction from above, in [0, 1].
        pc: of the error gradient ("alpha").

    Raises:
        UserError: one is not a number, not finite or out of range.
    """

    feedforward: float
    feedback: float
    pc: float

    def __post_init__(self) -> None:
        """Make plain numbers of what was given."""
        for name, value in vars(self).copy().items():
            object.__setattr__(self, name, checked_value(name, value))

    def values(self) -> dict[str, float]:
        """As a dictionary."""
        return dict(vars(self))


def checked_value(name: str, value: object) -> float:
    """The value of a hyperparameter as a plain number. Raises UserError when it cannot be one."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise UserError(f"{name} is {value!r}; it must be a finite number")
    number = float(value)
    if name != "pc" and not 0.0 <= number <= 1.0:
        raise UserError(f"{name} is {number!r}; it must lie between 0 and 1")
    return number


def check_memory(values: Sequence[Hyperparameters]) -> None:
    """Raise UserError where feedforward + feedback exceed 1: memory, which is the rest, would be negative."""
    for number, value in enumerate(values[:-1], 1):
        total = value.feedforward + value.feedback
        if total > 1 + 1e-6:
            raise UserError(
                f"PCoder {number}: feedforward + feedback is {total:g}; they must leave memory, so 1 or less"
            )


def read_config(source: str | Path | Mapping[str, Any] | PredictiveConfig) -> PredictiveConfig:
    """A configuration from a TOML file, a dict of the same form, or a configuration, which is returned.

    Raises:
        UserError: the file is missing or no TOML; a key is missing, unknown or has a wrong value.
    """
    if isinstance(source, PredictiveConfig):
        return source
    if isinstance(source, Mapping):
        return _checked(dict(source), "configuration")
    return _checked(read_toml(Path(source), f"configuration file {source}"), f"configuration {source}")


def _checked(content: dict[str, Any], name: str) -> PredictiveConfig:
    try:
        config = PredictiveConfig.model_validate(content)
        config.hyperparameters()
        return config
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = [*first["loc"]]
        place = ".".join(str(part + 1) if isinstance(part, int) else part for part in where) or "it"
        if first["type"] == "missing":
            raise UserError(f"{name}: key {place!r} is missing") from None
        if first["type"] == "extra_forbidden":
            model: type[BaseModel] = PredictiveConfig
            if where[0] == "pcoders":
                model = HyperparametersTable if "hyperparameters" in where else PCoderTable
            raise UserError(
                f"{name}: unknown key {place!r}; {did_you_mean(str(where[-1]), model.model_fields)}"
            ) from None
        if str(where[-1]) == "module":
            raise UserError(f"{name}: {place} is {str(first['input'])[:60]!r}; write it like 'features[3]'") from None
        raise UserError(f"{name}: {place}: {first['msg']}") from None


def write_toml(config: PredictiveConfig) -> str:
    """The text of a file that `read_config` reads back to an equal configuration."""
    import tomlkit

    document = tomlkit.document()
    document.add("name", tomlkit.item(config.name))
    if config.imports:
        document.add("imports", tomlkit.item(list(config.imports)))
    document.add("gradient_scaling", tomlkit.item(config.gradient_scaling))
    document.add("shared_hyperparameters", tomlkit.item(config.shared_hyperparameters))
    document.add("input_size", tomlkit.item(list(config.input_size)))
    tables = tomlkit.aot()
    for pcoder in config.pcoders:
        table = tomlkit.table()
        table.add("module", pcoder.module)
        if pcoder.predictor is not None:
            table.add("predictor", pcoder.predictor)
        values = tomlkit.inline_table()
        values.update(pcoder.hyperparameters.model_dump())
        table.add("hyperparameters", values)
        tables.append(table)
    document.add("pcoders", tables)
    return tomlkit.dumps(document).rstrip() + "\n"
