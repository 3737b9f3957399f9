"""What a run says on disk: the columns of its tables and the form of run.json. Versioned."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

# What makes a cell: every record and every row of accuracy.csv carries these.
CELL_COLUMNS = ["model", "weights", "data", "suite", "perturbation", "group", "severity"]

# records/*.parquet: one row for each image and timestep of a cell, after the columns of the cell. A perturbation may
# add columns of its own ("attacked", "distance"). `nll` is the negative log-likelihood of the label, in nats;
# `prediction_cumulative` is the class with the largest mean probability over timesteps 0..t.
RECORD_COLUMNS = [
    *CELL_COLUMNS,
    "image",
    "label",
    "timestep",
    "prediction",
    "confidence",
    "correct",
    "nll",
    "prediction_cumulative",
]

ACCURACY_COLUMNS = [*CELL_COLUMNS, "timestep", "n", "correct", "accuracy", "ci_low", "ci_high"]

Status = Literal["running", "complete", "interrupted", "failed"]


class Strict(BaseModel):
    """Refuses what it does not know: a misspelt key in a file from outside must not pass silently."""

    model_config = ConfigDict(extra="forbid")


class ModelInfo(Strict):
    """A model of a run: enough to load it again, and to know whether it is the same."""

    name: str
    weights: str
    family: str
    baseline: str | None
    timesteps: int
    num_classes: int
    has_dynamics: bool
    provenance: dict[str, object]


class DataInfo(Strict):
    """The images of a run. The fingerprint covers ids, labels and contents of the images that were used."""

    name: str
    fingerprint: str
    n: int
    skipped: list[str] = Field(default_factory=list)


class SuiteInfo(Strict):
    """A suite of a run; the version is raised whenever its conditions change, the digest says so by itself."""

    name: str
    version: int
    digest: str = ""


class CellInfo(Strict):
    """A finished cell: its file, what it cost, and what its perturbation reported besides the records.

    Attributes:
        file: of the records, relative to the run's directory; `sha256` is its checksum, `rows` its length.
        seconds: by stage: "data" (waiting for images), "perturbation", "model".
        extra: further tables of the cell, file -> checksum ("representations/...parquet").
        report: what the perturbation says about the cell.
    """

    file: str
    sha256: str
    rows: int
    seconds: dict[str, float]
    extra: dict[str, str] = Field(default_factory=dict)
    report: dict[str, object] = Field(default_factory=dict)


class RunInfo(Strict):
    """run.json. Holds no absolute path, host or user name.

    Attributes:
        identity: digest of all that decides the results; a run goes on only in a directory of the same identity.
        planned: number of cells that the directory has when it is finished.
        plan: the keys of all cells of the run, in order; of those, a shard has its own.
        shard: "2/8" for the second of eight parts of a run; "" for a whole one.
        compute: how, which decides nothing beyond rounding: batch size, worker processes, threads, compilation. Of the
            last time that the run was started.
        command: the words that make this run again, and go on with it. Paths are named by their last part.
        seconds: by stage of the whole run, over all its resumptions: "models" (loading them), "images" (reading and
            decoding), "ray" (connecting), "sweep" (of which "writing" are spent on keeping finished cells), "beside"
            (costs and terms), "checks" (of attacks), "figures".
    """

    schema_version: int = SCHEMA_VERSION
    status: Status
    identity: str = ""
    planned: int = 0
    plan: list[str] = Field(default_factory=list)
    shard: str = ""
    arguments: dict[str, object]
    models: list[ModelInfo]
    data: DataInfo
    suites: list[SuiteInfo]
    seed: int
    command: list[str] = Field(default_factory=list)
    device: str
    dtype: str
    compute: dict[str, object] = Field(default_factory=dict)
    packages: dict[str, str]
    git: dict[str, object]
    notices: list[str] = Field(default_factory=list)
    seconds: dict[str, float] = Field(default_factory=dict)
    cells: dict[str, CellInfo] = Field(default_factory=dict)
    created: str
    finished: str | None = None
