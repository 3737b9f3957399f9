"""Files of weights: safetensors of our own, and the pickles that others publish."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mutations import survive
from safetensors.torch import save
from torch import nn

from pcbench.errors import UserError
from pcbench.models import checkpoints
from pcbench.models.checkpoints import Metadata
from pcbench.models.feedforward import read_state
from pcbench.models.published import read_published
from pcbench.training.folder import TrainingFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]

Reading = Callable[[str, Callable[[Path], object]], Callable[[bytes], object]]
TENSORS = {"a": torch.arange(4.0), "b": torch.ones(2, 1, dtype=torch.float16), "c": torch.tensor(3)}


def torch_file(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def test_weights_of_our_own(reading: Reading, folder: Path) -> None:
    checkpoints.save(folder / "seed", TENSORS, Metadata(architecture="net", data="d", recipe="r"))
    valid = (folder / "seed").read_bytes()
    survive(reading("w.safetensors", lambda path: checkpoints.load(path, TENSORS, architecture="net")), [valid])


def test_tensors_of_others(reading: Reading) -> None:
    survive(reading("w.safetensors", read_state), [save(TENSORS), save({"x": torch.zeros(0)})])


@pytest.mark.parametrize("zipped", [True, False])
def test_published_weights(reading: Reading, zipped: bool) -> None:
    state = nn.Linear(2, 1).state_dict()
    seeds = [
        torch_file(state, _use_new_zipfile_serialization=zipped),
        torch_file({"pcoderweights": {"C_sqrt": torch.tensor(2.0)}}, _use_new_zipfile_serialization=zipped),
    ]
    survive(reading("pc1.pth", read_published), seeds)


def test_pickled_state_dicts(reading: Reading) -> None:
    survive(reading("w.pth", read_state), [torch_file({"a": torch.ones(2)})])


def test_the_state_of_a_training(folder: Path) -> None:
    training = TrainingFolder(folder / "training", {"recipe": "r"})

    def load(content: bytes) -> None:
        (folder / "training" / "state.pt").write_bytes(content)
        training.load_state()

    survive(load, [torch_file({"step": 3, "tensors": {"a": torch.ones(1)}, "rows": [{"epoch": 1}]})])


def test_the_note_of_a_training(folder: Path) -> None:
    TrainingFolder(folder / "training", {"recipe": "r", "rate": 0.5})
    note = folder / "training" / "training.json"
    valid = note.read_bytes()

    def load(content: bytes) -> None:
        note.write_bytes(content)
        TrainingFolder(folder / "training", {"recipe": "r", "rate": 0.5})

    survive(load, [valid])


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("read", [read_published, read_state])
@pytest.mark.parametrize("make", [lambda: torch_file({"a": Evil()}), lambda: pickle.dumps({"a": Evil()})])
def test_code_in_a_file_of_weights_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], make: Callable[[], bytes]
) -> None:
    monkeypatch.chdir(folder)
    (folder / "w.pth").write_bytes(make())
    with pytest.raises(UserError):
        read(folder / "w.pth")
    assert not (folder / "executed").exists()


def test_a_header_that_claims_a_large_tensor_is_refused_before_memory_is_taken(folder: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    (folder / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    for read in (checkpoints.read, read_state):
        with pytest.raises(UserError):
            read(folder / "w.safetensors")
