from pathlib import Path

import pcbench
from pcbench.models.checkpoints import read
from pcbench.models.resolve import load_model, resolve
from pcbench.models.shipped import SHIPPED, tuned_values
from pcbench.models.sources import sha256
from pcbench.models.spec import MODELS

FOLDER = Path(pcbench.__file__).parent / "models" / "weights"


def test_every_shipped_file_is_whole_and_has_a_card_with_its_checksum() -> None:
    files = sorted(FOLDER.glob("*.safetensors"))
    assert {file.name: sha256(file) for file in files} == SHIPPED
    assert sum(file.stat().st_size for file in files) < 80e6
    for file in files:
        assert read(file).metadata.recipe
        assert sha256(file) in file.with_suffix(".md").read_text()


def test_pefficientnet_lite0_runs_with_what_is_shipped() -> None:
    choice = resolve("pefficientnet-lite0")
    assert (choice.weights, choice.notices) == ("imagenet1k", ())
    model = load_model("pefficientnet-lite0")
    file = FOLDER / "pefficientnet-lite0-imagenet1k.safetensors"
    assert model.provenance["sha256"]["feedback"] == sha256(file)  # type: ignore[index]


VALUES = """
timesteps = 3
scaling = "kc"

[options]
feedforward = "0.5,1"
feedback = "0.25,0"
pc = "0,0"

[tuning]
data = "some-images"
"""


def test_tuned_values_are_read_as_the_command_writes_them(tmp_path: Path) -> None:
    (tmp_path / "net-tuned.toml").write_text(VALUES)
    found = tuned_values("net-tuned", tmp_path)
    assert found is not None
    assert (found.timesteps, found.data, found.options["scaling"]) == (3, "some-images", "kc")
    assert found.options["feedback"] == "0.25,0"
    assert tuned_values("another", tmp_path) is None


def test_shipped_values_are_those_of_their_tag() -> None:
    for path in FOLDER.glob("*.toml"):
        found = tuned_values(path.stem)
        assert found is not None
        entries = [(spec, entry) for _, spec in MODELS for entry in spec.weights]
        named = [(spec, entry) for spec, entry in entries if f"{spec.name}-{entry.tag}" == path.stem]
        assert [(entry.timesteps, entry.options["feedback"]) for _, entry in named] == [
            (found.timesteps, found.options["feedback"])
        ]
