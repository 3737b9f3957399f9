from pathlib import Path

import pcbench
from pcbench.models.checkpoints import read
from pcbench.models.loading import choose, load_model
from pcbench.models.shipped import SHIPPED
from pcbench.models.sources import sha256

FOLDER = Path(pcbench.__file__).parent / "models" / "weights"


def test_every_shipped_file_is_whole_and_has_a_card_with_its_checksum() -> None:
    files = sorted(FOLDER.glob("*.safetensors"))
    assert {file.name: sha256(file) for file in files} == SHIPPED
    assert sum(file.stat().st_size for file in files) < 80e6
    for file in files:
        assert read(file).metadata.recipe
        assert sha256(file) in file.with_suffix(".md").read_text()


def test_pefficientnet_lite0_runs_with_what_is_shipped() -> None:
    choice = choose("pefficientnet-lite0")
    assert (choice.weights.tag, choice.notice) == ("imagenet1k", None)
    model = load_model("pefficientnet-lite0")
    file = FOLDER / "pefficientnet-lite0-imagenet1k.safetensors"
    assert model.provenance["sha256"]["feedback"] == sha256(file)  # type: ignore[index]
