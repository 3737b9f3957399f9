"""The one format of weights that pcbench writes: safetensors with metadata, verified as a whole before use."""

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.files import open_file

FORMAT_VERSION = "1"


class Metadata(BaseModel):
    """What a file of weights says about itself. Everything is text, because that is what safetensors can hold.

    Attributes:
        architecture: name of the network, e.g. "pefficientnet-lite0".
        configuration: hash of the configuration that the tensors belong to (`configuration_hash`), or "".
        data: what the weights were trained on.
        recipe: how: command, optimiser, steps, source.
        checksum: of the tensors (`tensors_checksum`); filled in by `save`.
        format_version: of this format.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: str
    configuration: str = ""
    data: str = ""
    recipe: str = ""
    checksum: str = ""
    format_version: str = FORMAT_VERSION


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file: tensors by name, on the CPU, as they are stored, and the metadata."""

    tensors: dict[str, Tensor]
    metadata: Metadata


def configuration_hash(configuration: Mapping[str, object]) -> str:
    """Hash of a configuration of plain values (JSON), hexadecimal; the order of keys does not matter.

    >>> configuration_hash({"a": 1, "b": [2]}) == configuration_hash({"b": [2], "a": 1})
    True
    """
    text = json.dumps(configuration, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def tensors_checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of tensors, in the order of their names, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Metadata, *, half: bool = False) -> Metadata:
    """Write a file of weights, atomically: it is there whole, or not at all.

    Args:
        path: of the file; its folder is made.
        tensors: by name.
        metadata: what the file says about itself; checksum and format version are filled in.
        half: store floating-point tensors as float16 (values must fit).

    Returns:
        The metadata as written.

    Raises:
        UserError: a value is not finite, or not after rounding to float16.
    """
    stored = {}
    for name, tensor in tensors.items():
        kept = tensor.detach().cpu()
        if half and kept.is_floating_point():
            kept = kept.to(torch.float16)
        if kept.is_floating_point() and not bool(kept.isfinite().all()):
            raise UserError(f"{path.name}: {name} has values that are not finite{' in float16' if half else ''}")
        stored[name] = kept.contiguous().clone()  # safetensors refuses tensors that share memory
    written = metadata.model_copy(
        update={"checksum": tensors_checksum(stored), "format_version": FORMAT_VERSION},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(stored, partial, metadata=written.model_dump())
        partial.chmod(0o644)  # safetensors makes files that only their owner reads
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return written


def read(path: Path) -> Checkpoint:
    """Read a file of weights and verify that it is whole and undamaged.

    Raises:
        UserError: the file is missing, damaged, of another format, or its tensors do not have its checksum.
    """
    open_file(path, what=f"file of weights {path}", follow=True).close()  # there, and a regular file
    try:
        with safe_open(path, framework="pt") as file:
            text = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights {path.name} are damaged, or not a safetensors file: {error}") from error
    version = text.get("format_version")
    if version != FORMAT_VERSION:
        found = "no format version" if version is None else f"format version {version}"
        raise UserError(
            f"weights {path.name} have {found}; expected {FORMAT_VERSION} "
            "(`pcbench weights import` converts published files)"
        )
    try:
        metadata = Metadata(**text)
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"weights {path.name}: metadata {problem['loc'][0]!r}: {problem['msg']}") from None
    checksum = tensors_checksum(tensors)
    if checksum != metadata.checksum:
        raise UserError(
            f"weights {path.name} are damaged: their tensors have checksum {checksum[:12]}, "
            f"expected {metadata.checksum[:12] or 'none'}"
        )
    return Checkpoint(tensors, metadata)


def match(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str, *, optional: Collection[str] = ()
) -> dict[str, Tensor]:
    """Check tensors against those of a network, and bring them to its dtypes and devices.

    Args:
        tensors: found, by name.
        expected: of the network, by name; gives shapes, dtypes and devices.
        source: what the tensors come from, for messages.
        optional: names in `expected` that need not be found.

    Returns:
        One tensor for each name that was found. Floating-point dtypes are converted; no others.

    Raises:
        UserError: the first mismatch: the key, what was expected and what was found.
    """
    matched = {}
    for name, target in expected.items():
        if name not in tensors:
            if name in optional:
                continue
            raise UserError(f"{source} does not fit: {name!r} is missing, expected {_form(target)}")
        found = tensors[name]
        convertible = found.is_floating_point() and target.is_floating_point()
        if found.shape != target.shape or not (convertible or found.dtype == target.dtype):
            raise UserError(f"{source} does not fit: {name!r} is {_form(found)}, expected {_form(target)}")
        matched[name] = found.to(dtype=target.dtype, device=target.device)
    for name, found in tensors.items():
        if name not in expected:
            raise UserError(f"{source} does not fit: {name!r} ({_form(found)}) is not expected")
    return matched


def load(
    path: Path,
    expected: Mapping[str, Tensor],
    *,
    architecture: str | None = None,
    configuration: str | None = None,
    optional: Collection[str] = (),
) -> dict[str, Tensor]:
    """Tensors of a file, verified and fitting a network: all of them, or an error.

    Args:
        path: of the file.
        expected: the network's tensors, by the names that the file uses.
        architecture: what the file must say that it is for; None to accept any.
        configuration: hash that the file must carry; None to accept any. A file without one is accepted.
        optional: names in `expected` that the file may leave out.

    Raises:
        UserError: the file is missing, damaged or for another network; with the first mismatch.
    """
    checkpoint = read(path)
    found = checkpoint.metadata
    if architecture is not None and found.architecture != architecture:
        raise UserError(f"weights {path.name} are for {found.architecture!r}, expected {architecture!r}")
    if configuration is not None and found.configuration not in ("", configuration):
        raise UserError(
            f"weights {path.name} belong to another configuration: hash {found.configuration[:12]}, "
            f"expected {configuration[:12]}"
        )
    return match(checkpoint.tensors, expected, f"weights {path.name}", optional=optional)


def feedback_tensors(network: nn.Module) -> dict[str, Tensor]:
    """What a feedback file holds of a predictive network: "pcoders.I.predictor.*" and "pcoders.I.C_sqrt"."""
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.startswith("pcoders.") and (name.endswith(".C_sqrt") or ".predictor." in name)
    }


def load_feedback(
    network: nn.Module, path: Path, *, architecture: str | None = None, configuration: str | None = None
) -> None:
    """Load a feedback file into a predictive network; "C_sqrt" is loaded where the file has it. Raises as `load`."""
    expected = feedback_tensors(network)
    optional = [name for name in expected if name.endswith(".C_sqrt")]
    matched = load(path, expected, architecture=architecture, configuration=configuration, optional=optional)
    network.load_state_dict(matched, strict=False)  # strict in effect: `load` has compared every name


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
