"""Models of RobustBench: "robustbench:DATA/THREAT/NAME", e.g. "robustbench:cifar10/Linf/Carmon2019Unlabeled".

They take images in [0, 1] and normalise by themselves. Their files lie in the user's folder of weights, below
robustbench/, as the package lays them out (DATA/THREAT/NAME.pt); it downloads them there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from pcbench.errors import UserError, did_you_mean
from pcbench.models.base import FeedforwardClassifier, Preprocessing, TemporalClassifier
from pcbench.models.options import Json
from pcbench.models.own import initialised
from pcbench.models.sources import offline, sha256, shown, weights_folder
from pcbench.models.spec import ModelSpec, Weights

_ITSELF = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # no normalisation

_SMALL = Preprocessing((32, 32), *_ITSELF)
_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
# What the package calls the ways in which it prepares images; the others cannot be said in a Preprocessing.
_PREPARED = {
    None: _SMALL,
    "Res256Crop224": Preprocessing((224, 224), *_ITSELF, resize=256),
    "BicubicRes256Crop224": Preprocessing((224, 224), *_ITSELF, resize=256, interpolation="bicubic"),
    "Res224": Preprocessing((224, 224), *_ITSELF, resize=224, squash=True),
}


@dataclass(frozen=True)
class RobustBenchFile:
    """The file of a model of RobustBench.

    Attributes:
        data, threat, name: of the model.
    """

    data: str
    threat: str
    name: str

    def _path(self) -> Path:
        return weights_folder() / "robustbench" / self.data / self.threat / f"{self.name}.pt"

    def at_hand(self) -> bool:
        """Whether the file is there."""
        return self._path().is_file()

    def describe(self) -> str:
        """Which file, and where it comes from."""
        return f"{shown(self._path(), ['PCBENCH_WEIGHTS'])} (downloaded by the package robustbench)"

    def path(self) -> Path:
        """The file, downloaded if need be. Raises UserError when that fails."""
        if not self.at_hand():
            if offline():
                raise UserError(f"weights are missing: {self.describe()}; HF_HUB_OFFLINE forbids the download")
            self.load()
        return self._path()

    def load(self) -> nn.Module:
        """The network, as the package makes it. Raises UserError."""
        load = _module("robustbench.utils").load_model
        folder = weights_folder() / "robustbench"
        try:
            network: nn.Module = load(self.name, model_dir=folder, dataset=self.data, threat_model=self.threat)
        except Exception as error:  # of gdown, requests, zipfile, torch
            raise UserError(f"robustbench cannot load {self.name}: {type(error).__name__}: {error}") from error
        return network


def robustbench_spec(rest: str, _: Mapping[str, object]) -> ModelSpec:
    """The model "robustbench:DATA/THREAT/NAME". Raises UserError: there is none, or the package is missing."""
    name = f"robustbench:{rest}"
    parts = rest.split("/")
    if len(parts) != 3 or parts[0] not in _CLASSES:
        raise UserError(f"model {name!r}: write robustbench:DATA/THREAT/NAME; DATA is {', '.join(_CLASSES)}")
    data, threat, model = parts
    known = _known(data)
    if threat not in known:
        raise UserError(f"robustbench has no threat model {threat!r} for {data}; {did_you_mean(threat, known)}")
    if model not in known[threat]:
        raise UserError(
            f"robustbench has no model {model!r} for {data}, {threat}; {did_you_mean(model, known[threat])}"
        )
    file = RobustBenchFile(data, threat, model)
    classes, how = _CLASSES[data], known[threat][model].get("preprocessing") if data == "imagenet" else None
    if how not in _PREPARED:
        raise UserError(f"{name} wants images prepared as {how!r}, which is not done here")
    preprocessing = _PREPARED[how]

    def build(spec: ModelSpec, weights: Weights, options: Mapping[str, Json], seed: int) -> TemporalClassifier:
        if weights.sources:
            network, record = file.load(), {"sha256": {"network": sha256(file.path())}}
        else:
            network, record = initialised(known[threat][model]["model"], seed), {"seed": seed}  # type: ignore[dict-item]
        made = FeedforwardClassifier(network, classes, preprocessing)
        made.provenance = dict(record)
        return made

    weights = Weights("robustbench", preprocessing, classes, data, {"network": file}, description="of RobustBench")
    return ModelSpec(name, "feedforward", f"RobustBench's {model}, {threat}", build, (weights,))


def _known(data: str) -> dict[str, dict[str, Any]]:
    """Threat model -> name -> what the package knows of the model."""
    models = _module("robustbench.model_zoo").model_dicts
    tables = {getattr(key, "value", key): table for key, table in models.items()}
    return {getattr(key, "value", key): table for key, table in tables.get(data, {}).items()}


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"RobustBench's models need its package: {error} (pip install robustbench)") from None
