"""What this package ships in models/weights: weights, each with its checksum and a card, and tuned hyperparameters."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pcbench.models.sources import InstalledFile, UserFile
from pcbench.models.spec import WeightSource

FOLDER = Path(__file__).parent / "weights"

# file -> SHA-256
SHIPPED: Mapping[str, str] = {
    "pefficientnet-lite0-imagenet1k.safetensors": "41f442f7075c5a4466a0c8f3acd31cbc0681bf2c9b1a0517e57e815a1b262a91",
}


def weights_file(file: str, get: str) -> WeightSource:
    """Where a file of ours lies: in this package when it is shipped, else in the user's folder of weights.

    Args:
        file: its name.
        get: the command that makes it.
    """
    if file in SHIPPED:
        return InstalledFile(package="pcbench", file=f"models/weights/{file}", sha256=SHIPPED[file])
    return UserFile(file, get)


@dataclass(frozen=True)
class TunedValues:
    """What `pcbench train hyperparameters` found.

    Attributes:
        options: for the model's builder, as text: {"feedforward": "0.8,0.5", ...}.
        timesteps: default T that goes with them.
        data: name of the images that they were tuned on.
    """

    options: Mapping[str, object]
    timesteps: int
    data: str


def tuned_values(name: str, folder: Path = FOLDER) -> TunedValues | None:
    """The values in the file NAME.toml, as the command wrote it; None where none is shipped."""
    path = folder / f"{name}.toml"
    if not path.is_file():
        return None
    found = tomllib.loads(path.read_text())
    options = {**found["options"], "scaling": found["scaling"]}
    return TunedValues(options, int(found["timesteps"]), str(found["tuning"]["data"]))
