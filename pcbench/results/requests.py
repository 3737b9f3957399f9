"""run.json: what was asked of a directory. Each request with its status, arguments, notices and cells."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pcbench.errors import UserError
from pcbench.keys import digest_of
from pcbench.results.disk import read_text

RUN_FILE = "run.json"
SCHEMA = 2
_MOST = 200_000_000  # bytes of run.json

Status = Literal["running", "complete", "interrupted", "failed"]


class _Form(BaseModel):
    """Refuses what it does not know: a misspelt key in a file from outside must not pass silently."""

    model_config = ConfigDict(extra="forbid")


class AskedSuite(_Form):
    """A suite as it was asked for, with its conditions: a request with a suite of one's own can be repeated.

    Attributes:
        name, version, measure, timesteps: of the suite file.
        conditions: as the file lists them (see `pcbench.keys.Condition`), before they are settled for a network.
        cells: digests of the cells that it comes to.
    """

    name: str
    version: int
    measure: str
    timesteps: int | None = None
    conditions: list[dict[str, Any]]
    cells: list[str]


class Request(_Form):
    """One request: a `pcbench run`.

    Attributes:
        asked: the options that differ from their defaults, places by their last part (`RunConfig.recorded`).
        status: as it was left; see `Requests.status_of`.
        models, data: labels, for people.
        suites: see there; all cells of the request are in them.
        notices: what was chosen for the user.
        skipped: images that could not be decoded.
        compute: how, which decides nothing beyond rounding; of the last time that something was computed.
        seconds: by stage, added up over all times.
        created, finished: UTC.
    """

    asked: dict[str, Any]
    status: Status = "running"
    models: list[str]
    data: str
    suites: list[AskedSuite]
    notices: list[str] = Field(default_factory=list)
    skipped: list[str] = Field(default_factory=list)
    compute: dict[str, Any] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    created: str
    finished: str | None = None

    @property
    def cells(self) -> list[str]:
        """Digests of its cells, each once, in order."""
        return list(dict.fromkeys(digest for suite in self.suites for digest in suite.cells))

    @property
    def digest(self) -> str:
        """What makes it the same request: its cells, suite by suite. The hardware that computes them does not."""
        return digest_of([[suite.name, suite.cells] for suite in self.suites])


class Requests(_Form):
    """The whole of run.json; `schema` is its version, `derived` the digest of the cells that tables were made of."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    version: int = Field(default=SCHEMA, alias="schema")
    requests: list[Request] = Field(default_factory=list)
    derived: str = ""

    def put(self, request: Request) -> None:
        """Add a request, or take the place of the same one; what it said of its past stays."""
        for index, other in enumerate(self.requests):
            if other.digest == request.digest:
                self.requests[index] = request
                return
        self.requests.append(request)

    def find(self, digest: str) -> Request | None:
        """The request of that digest."""
        return next((request for request in self.requests if request.digest == digest), None)

    def text(self) -> str:
        """The content of the file."""
        return self.model_dump_json(indent=1, by_alias=True) + "\n"


def read_requests(directory: Path) -> Requests:
    """run.json of a directory; nothing asked where there is none: cells that were copied there are results as well.

    Raises:
        UserError: it is damaged, or of another schema.
    """
    path = directory / RUN_FILE
    try:
        text = read_text(path, _MOST)
    except FileNotFoundError:
        return Requests()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{path} cannot be read: {reason}") from None
    try:
        raw = json.loads(text)
        if isinstance(raw, Mapping) and "schema" not in raw and "schema_version" in raw:
            raise UserError(
                f"{path} is of schema 1, which this pcbench does not read; run it again into another directory"
            )
        there = raw.get("schema") if isinstance(raw, Mapping) else None
        if there != SCHEMA:
            raise UserError(f"{path} has schema {there!r}; this pcbench reads {SCHEMA}")
        json.dumps(raw, ensure_ascii=False).encode()  # half a character could be read, and never written again
        return Requests.model_validate(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{path} is damaged: {place}: {problem['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {str(error) or 'nested too deeply'}") from None
