"""What this machine has: packages, devices, data, weights. Names no path of the user's: it can be pasted anywhere."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import psutil
import torch

from pcbench.data.dataset import DATA
from pcbench.data.registry import list_data
from pcbench.models.listing import list_models
from pcbench.models.spec import MODELS
from pcbench.perturbations.attacks.attack import ATTACKS
from pcbench.perturbations.base import KINDS
from pcbench.perturbations.corruptions.own import CORRUPTIONS
from pcbench.results.provenance import packages

_OPTIONAL = ("ray", "playwright")


def examine() -> dict[str, object]:
    """What is installed and at hand.

    Returns:
        "system", "packages", "devices": name -> value; "data": rows with name, at_hand, note (what it is, or what is
        missing and how to get it); "models": rows with name, at_hand (tags) and missing (tags); "plugins": one line for
        each that does not load.
    """
    return {
        "system": _system(),
        "packages": packages() | {name: _version(name) for name in _OPTIONAL},
        "devices": _devices(),
        "data": [
            {
                "name": row["name"],
                "at_hand": row["at_hand"],
                "note": row["description"] if row["at_hand"] else row["needs"],
            }
            for row in list_data()
        ],
        "models": [
            {"name": row["name"], "at_hand": row["at_hand"], "missing": list(row["needs"])}  # type: ignore[call-overload]
            for row in list_models()
        ],
        "plugins": [line for registry in (MODELS, DATA, KINDS, CORRUPTIONS, ATTACKS) for line in registry.broken],
    }


def _system() -> dict[str, object]:
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
    }


def _devices() -> dict[str, object]:
    found: dict[str, object] = {"cpu": f"{torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if len(found) == 1:
        found["cuda"] = "none"
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed (optional)"
