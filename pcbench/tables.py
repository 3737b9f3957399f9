"""Tables of data from outside: their form is a class, and a bad one is refused in one line."""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pcbench.errors import UserError, did_you_mean


class Strict(BaseModel):
    """Refuses what it does not know: a misspelt key in a file from outside must not pass silently."""

    model_config = ConfigDict(extra="forbid")


class Table(BaseModel):
    """A table of a suite file. Kinds of perturbations subclass it with the keys that they understand."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str

    @classmethod
    def read(cls, suite: str, table: Mapping[str, object]) -> Self:
        """The table, checked. Raises UserError: unknown or missing key, or a value of the wrong kind."""
        try:
            return cls.model_validate(dict(table))
        except ValidationError as error:
            what = first_problem(error, list(cls.model_fields))
            raise UserError(f"suite {suite}, perturbations of kind {table.get('kind')!r}: {what}") from None


def first_problem(error: ValidationError, known: list[str]) -> str:
    """One line about the first thing that pydantic found wrong.

    Args:
        error: of the validation.
        known: the keys that are known, for a misspelt one.
    """
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"no key {place!r}; {did_you_mean(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"the key {place!r} is missing"
    value = repr(problem["input"])
    return f"{place}: {problem['msg']}, not {value if len(value) <= 60 else value[:57] + '...'}"
