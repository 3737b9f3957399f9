"""What this package ships in models/weights: weights, each with its checksum and a card, and tuned hyperparameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from pcbench.errors import UserError
from pcbench.models.sources import InstalledFile, UserFile
from pcbench.models.spec import WeightSource
from pcbench.toml import read_toml

FOLDER = Path(__file__).parent / "weights"

# file -> SHA-256
SHIPPED: Mapping[str, str] = {
    "convrnn-rgc-shallow-cifar-cifar10-half.safetensors": "31777fe47b1b664d5b99c361608b931810e46505f253ddbb4b6821ed6286ec82",
    "hah-vgg16-cifar10-half.safetensors": "7be8ce382d825f10bf483edf63d5ab64daa02bc3f849236802657b1dca8682ec",
    "convrnn-timedecay-shallow-cifar-cifar10-half.safetensors": "044ce49b709bbf94c8b3792347c8a8e103e52fdcdbc0cdb229f4a77c162b3916",
    "convrnn-feedforward-shallow-cifar-cifar10-matched.safetensors": "b724fc1aba77561999ea9488537845d90dc63622348ce3ccb901977390737eea",
    "pvgg16-cifar-cifar10-half.safetensors": "78c7fa2e61b2fb7e5a627fd48c59a8c474fa7ba73ed7db32246c23273ec77431",
    "vgg16-cifar-cifar10-half.safetensors": "fe70829d49463a281c4932aa7df8df41af263e0b44cbeba6800894dfdc7989c5",
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


class _Tuning(BaseModel):
    data: str


class _TunedFile(BaseModel):
    """What is read of hyperparameters.toml; the rest says how the values were found."""

    scaling: str
    timesteps: Annotated[int, Field(ge=0)]
    options: dict[str, str]
    tuning: _Tuning


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
    """The values in the file NAME.toml, as the command wrote it; None where none is shipped.

    Raises:
        UserError: the file is not as the command writes it.
    """
    path = folder / f"{name}.toml"
    if not path.is_file():
        return None
    what = f"hyperparameters {path.name}"
    try:
        found = _TunedFile.model_validate(read_toml(path, what))
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{what}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    return TunedValues({**found.options, "scaling": found.scaling}, found.timesteps, found.tuning.data)
