"""Published checkpoints of feedback weights: one file per PCoder, in the two layouts of the Predify package.

pvgg16_imagenet_pretrained_pc{n}_pmodule.pth    a bare state dict of the predictor; pc1's keys may start with "0."
pnet_pretrained_pc{n}_{epoch}.pth               a dict with `pcoderweights`: keys "pmodule.*", perhaps "C_sqrt"
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.models.checkpoints import feedback_tensors, match
from pcbench.models.pickles import read_pickled


def read_published(path: Path) -> dict[str, Tensor]:
    """The tensors of one PCoder's file, by the predictor's own names, "C_sqrt" among them where the file has it.

    Only tensors and plain containers are read (torch's restricted unpickler): a file cannot run code.

    Raises:
        UserError: the file is missing, damaged, refused, or of neither layout.
    """
    content = read_pickled(path)
    if isinstance(content, Mapping) and "pcoderweights" in content:
        content = content["pcoderweights"]
    if not isinstance(content, Mapping) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise UserError(f"{path.name} is no published checkpoint: neither a state dict nor a dict with 'pcoderweights'")
    return {str(name).removeprefix("pmodule."): tensor for name, tensor in content.items()}


def in_order(paths: Sequence[Path], count: int) -> list[Path]:
    """Files by the number of their PCoder, which their names carry ("..._pc3_...").

    Raises:
        UserError: a name without a number, a number twice, missing or too high.
    """
    numbered: dict[int, Path] = {}
    for path in paths:
        found = re.search(r"pc(\d+)(?!\d)", path.name)
        if found is None:
            raise UserError(f"{path.name} does not say which PCoder it is for; name it ..._pc1.pth, ..._pc2.pth, ...")
        number = int(found[1])
        if number in numbered:
            raise UserError(f"{path.name} and {numbered[number].name} are both for PCoder {number}")
        numbered[number] = path
    for number in range(1, count + 1):
        if number not in numbered:
            raise UserError(f"there is no file for PCoder {number} of {count}")
    extra = sorted(set(numbered) - set(range(1, count + 1)))
    if extra:
        raise UserError(f"{numbered[extra[0]].name} is for PCoder {extra[0]}; the network has {count}")
    return [numbered[number] for number in range(1, count + 1)]


def import_published(network: nn.Module, paths: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of a feedback file ("pcoders.I.predictor.*", "pcoders.I.C_sqrt") from one published file per PCoder.

    A predictor of one layer and one inside a Sequential name their tensors differently ("weight", "0.weight"), and
    published files have both forms for the same layer; so tensors go by kind and position among the layers that have
    any ("first weight"), and their shapes are compared.

    Raises:
        UserError: a file is missing or damaged, or does not fit, with the first mismatch.
    """
    expected = feedback_tensors(network)
    pcoders = network.get_submodule("pcoders")
    tensors: dict[str, Tensor] = {}
    for n, path in enumerate(in_order(paths, len(list(pcoders.children())))):
        found = read_published(path)
        prefix = f"pcoders.{n}."
        wanted = {name.removeprefix(prefix): t for name, t in expected.items() if name.startswith(prefix)}
        names = _by_position([name.removeprefix("predictor.") for name in wanted if name != "C_sqrt"])
        renamed = {}
        for place, name in _by_position([name for name in found if name != "C_sqrt"]).items():
            renamed[f"predictor.{names.get(place, name)}"] = found[name]
        if "C_sqrt" in found:
            renamed["C_sqrt"] = found["C_sqrt"].reshape(()).float()
        fitting = match(renamed, wanted, path.name, optional=("C_sqrt",))
        tensors |= {prefix + name: tensor for name, tensor in fitting.items()}
    return tensors


def export_published(network: nn.Module, tensors: Mapping[str, Tensor], layout: str) -> list[dict[str, Any]]:
    """One content per PCoder, to be written with torch.save, from the tensors of a feedback file.

    Args:
        network: that the tensors fit.
        tensors: by the names of a feedback file.
        layout: "pmodule" (bare state dicts) or "pcoderweights" (with C_sqrt).
    """
    count = len(list(network.get_submodule("pcoders").children()))
    contents: list[dict[str, Any]] = []
    for n in range(count):
        prefix = f"pcoders.{n}."
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        bare = {name.removeprefix("predictor."): t for name, t in own.items() if name != "C_sqrt"}
        if layout == "pmodule":
            contents.append(bare)
        else:
            weights = {f"pmodule.{name}": tensor for name, tensor in bare.items()}
            weights |= {name: tensor for name, tensor in own.items() if name == "C_sqrt"}
            contents.append({"pcoderweights": weights})
    return contents


def _by_position(names: Sequence[str]) -> dict[tuple[int, str], str]:
    """Names of tensors by (position of their layer among those that have tensors, kind): (0, "weight")."""
    layers = sorted({name.rpartition(".")[0] for name in names}, key=_natural)
    return {(layers.index(name.rpartition(".")[0]), name.rpartition(".")[2]): name for name in names}


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in text.split(".")]
