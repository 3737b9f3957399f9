"""Suites by name or path: read, checked, turned into conditions."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from pcbench.errors import MissingPackageError, UserError, did_you_mean
from pcbench.keys import Condition
from pcbench.perturbations.base import KINDS
from pcbench.tables import Strict, first_problem
from pcbench.toml import read_toml

Measure = Literal["predictions", "representations"]


class SuiteFile(Strict):
    """The form of a suite file. Each table of `perturbations` is read by its kind."""

    name: Annotated[str, Field(min_length=1)]
    version: Annotated[int, Field(ge=1)]
    description: str
    measure: Measure = "predictions"
    timesteps: Annotated[int, Field(ge=0)] | None = None
    perturbations: Annotated[list[dict[str, object]], Field(min_length=1)]


@dataclass(frozen=True)
class Suite:
    """A named list of conditions.

    Attributes:
        name, version, description: as in the file; the version is raised whenever the conditions change.
        measure: "predictions", or "representations": also how far each PCoder's representation is from the clean one.
        timesteps: T of the experiment, where it belongs to it; taken when the user names none.
        conditions: in the order of the file.
    """

    name: str
    version: int
    description: str
    measure: Measure
    timesteps: int | None
    conditions: list[Condition]

    def digest(self) -> str:
        """Hexadecimal digest of all that the suite asks for: two files of one name and version may still differ."""
        text = json.dumps([self.measure, [asdict(condition) for condition in self.conditions]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shipped() -> dict[str, Path]:
    folder = Path(str(files("pcbench.suites")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def suite_names() -> list[str]:
    """The names of the suites that come with the package."""
    return list(_shipped())


def list_suites() -> list[dict[str, object]]:
    """Every suite of the package.

    Returns:
        Of each: name, version, description, measure, conditions (their number), perturbations, and needs: "", or what
        has to be installed before it can be run or counted (conditions is None then, perturbations empty).
    """
    return [_listed(path) for path in _shipped().values()]


def _listed(path: Path) -> dict[str, object]:
    try:
        return describe(read_suite(path))
    except MissingPackageError as error:
        read = _read(path)
        nothing = Suite(read.name, read.version, read.description, read.measure, read.timesteps, [])
        return {**describe(nothing), "conditions": None, "needs": str(error)}


def describe(suite: Suite) -> dict[str, object]:
    """What `list_suites` says about a suite."""
    return {
        "name": suite.name,
        "version": suite.version,
        "description": suite.description,
        "measure": suite.measure,
        "conditions": len(suite.conditions),
        "perturbations": list(dict.fromkeys(condition.perturbation for condition in suite.conditions)),
        "needs": "",
    }


def load_suite(name: str) -> Suite:
    """A suite by its name, or by the path of a suite file.

    Raises:
        UserError: no such suite or file, or the file is not a suite.
    """
    shipped = _shipped()
    if name in shipped:
        return read_suite(shipped[name])
    path = Path(name)
    if path.suffix == ".toml" or len(path.parts) > 1:
        if not path.is_file():
            raise UserError(f"no suite file {name}")
        return read_suite(path)
    raise UserError(f"no suite {name!r}, and no suite file (.toml) of that path; {did_you_mean(name, shipped)}")


def read_suite(path: Path) -> Suite:
    """A suite file. Raises UserError: not TOML, a key missing, unknown or of the wrong kind, or conditions twice."""
    read = _read(path)
    conditions = [condition for table in read.perturbations for condition in _conditions(read.name, table)]
    seen: set[Condition] = set()
    for condition in conditions:
        if condition in seen:
            raise UserError(f"suite {read.name} has {condition.perturbation} at {condition.severity:g} twice")
        seen.add(condition)
    return Suite(read.name, read.version, read.description, read.measure, read.timesteps, conditions)


def _read(path: Path) -> SuiteFile:
    try:
        return SuiteFile.model_validate(read_toml(path, f"suite file {path.name}"))
    except ValidationError as error:
        raise UserError(f"suite file {path.name}: {first_problem(error, list(SuiteFile.model_fields))}") from None


def _conditions(suite: str, table: Mapping[str, object]) -> list[Condition]:
    kind = table.get("kind")
    if not isinstance(kind, str):
        raise UserError(f"suite {suite}: a [[perturbations]] table has no kind; known: {', '.join(KINDS.names())}")
    return KINDS[kind].conditions(suite, table)
