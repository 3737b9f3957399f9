"""The weights that this package ships: the files in models/weights, each with its checksum; a card lies beside each."""

from collections.abc import Mapping

from pcbench.models.sources import InstalledFile, UserFile
from pcbench.models.spec import WeightSource

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
