"""What a name stands for: pvgg16 and vgg16 have counterparts for CIFAR-10, which run under names of their own."""

from pathlib import Path

import pytest
import torch

from pcbench.cli.app import main
from pcbench.errors import UserError
from pcbench.models.checkpoints import Metadata, configuration_hash, feedback_tensors, save
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.resolve import checksum, load_model, resolve
from pcbench.models.sources import UserFile
from pcbench.models.spec import MODELS

SUITE = """
name = "one-noise"
version = 1
description = "Noise of one strength."

[[perturbations]]
kind = "clean"

[[perturbations]]
kind = "noise"
name = "gaussian-noise"
units = "normalised"
sigma = [0.5]
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights of vgg16-cifar and pvgg16-cifar, tag cifar10, and nothing else at hand."""
    folder = tmp_path / "weights"
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(folder))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("PCBENCH_CIFAR10", raising=False)
    network = load_model("pvgg16-cifar", "random", seed=3)
    assert isinstance(network, PredictiveClassifier)
    backbone = load_model("vgg16-cifar", "random", seed=3)
    about = {"width": 1.0, "convolutions": "implicit"}
    metadata = Metadata(architecture="vgg16-cifar", configuration=configuration_hash(about))
    save(folder / "vgg16-cifar-cifar10.safetensors", backbone.network.state_dict(), metadata, half=True)
    metadata = Metadata(architecture="pvgg16-cifar", configuration=str(network.provenance["configuration"]))
    save(folder / "pvgg16-cifar-cifar10.safetensors", feedback_tensors(network.network), metadata, half=True)
    return folder


@pytest.mark.parametrize("name", ["vgg16", "pvgg16"])
def test_no_other_network_is_ever_loaded_under_a_name(name: str, mine: Path) -> None:
    with pytest.raises(UserError, match=f"^{name}: no weights are at hand; missing: .*its counterpart .* {name}-cifar"):
        load_model(name)
    with pytest.raises(UserError, match=f"{name} has no weights 'cifar10'"):
        load_model(name, "cifar10")


@pytest.mark.parametrize("name", ["vgg16", "pvgg16"])
def test_the_command_line_runs_the_counterpart_under_the_counterparts_name(name: str, mine: Path) -> None:
    chosen = resolve(name, cross=True)
    assert (chosen.name, chosen.weights, chosen.label_space) == (f"{name}-cifar", "cifar10", "cifar10")
    assert chosen.notices == (
        f"{name} runs as {name}-cifar: no weights of its own are at hand "
        f"(pcbench models '{name}' says what is missing)",
    )
    model, other = chosen.build(), load_model(f"{name}-cifar", "cifar10")
    assert (model.name, model.weights, model.num_classes) == (f"{name}-cifar", "cifar10", 10)
    assert checksum(model) == checksum(other)
    assert resolve(name, "cifar10", cross=True).name == f"{name}-cifar"
    assert resolve(name, "random", cross=True).name == name


def test_the_baseline_has_the_same_weights_by_whatever_tag(mine: Path) -> None:
    baseline = resolve("pvgg16-cifar@cifar10-published").baseline
    assert baseline is not None
    assert (baseline.name, baseline.weights) == ("vgg16-cifar", "cifar10")
    random = resolve("pvgg16", "random")
    assert random.baseline is not None
    drawn, plain = random.build(seed=2), random.baseline.build(seed=2)
    image = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(drawn(image, timesteps=0), plain(image, timesteps=0), atol=1e-5)


def test_random_weights_are_those_of_the_network_itself() -> None:
    assert load_model("pvgg16?dynamics=no-error", "random").num_classes == 1000
    assert resolve("vgg16", "random").label_space == "imagenet"


def test_a_network_that_is_made_predictive_keeps_to_its_own_weights() -> None:
    for name in ("predify:vgg16", "pvgg16"):
        assert [entry.tag for entry in resolve(name, "random").spec.weights] == ["imagenet1k"]


def test_published_values_are_a_tag_of_the_same_files() -> None:
    for name, first in (("pefficientnet-lite0", "imagenet1k"), ("pvgg16-cifar", "cifar10")):
        entries = {entry.tag: entry for entry in MODELS[name].weights}
        published = entries["published" if first == "imagenet1k" else f"{first}-published"]
        assert published.sources == entries[first].sources
        expected = {"feedforward": 0.8, "feedback": 0.1, "pc": 0.01, "scaling": "none"}
        assert {key: published.options[key] for key in expected} == expected
    values = load_model("pefficientnet-lite0", "published").provenance
    assert values["scaling"] == "none"
    assert values["hyperparameters"][0] == {"feedforward": 0.8, "feedback": 0.1, "pc": 0.01}  # type: ignore[index]


def test_borrowed_weights_are_not_trained_under_another_name(tmp_path: Path) -> None:
    from pcbench.training.scratch import from_scratch
    from pcbench.training.start import without_feedback

    with pytest.raises(UserError, match="vgg16 has no weights 'cifar10'"):
        from_scratch("vgg16", "cifar10", 0)
    with pytest.raises(UserError, match="pvgg16 has no weights 'cifar10'"):
        without_feedback("pvgg16", "cifar10")


def test_a_run_without_imagenet_and_network_uses_the_counterpart_on_packaged_images(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "one-noise.toml"
    suite.write_text(SUITE)
    words = ["run", "--model", "pvgg16", "--suite", str(suite), "--timesteps", "1", "--limit", "2", "--workers", "0"]
    with pytest.raises(SystemExit) as done:
        main([*words, "--device", "cpu", "--output", str(tmp_path / "out")])
    shown = capsys.readouterr()
    assert not done.value.code, shown.err
    text = " ".join((shown.out + shown.err).split())
    assert "pvgg16 runs as pvgg16-cifar" in text
    assert "samples-cifar10" in text
    import pandas as pd

    table = pd.read_csv(tmp_path / "out" / "accuracy.csv")
    assert set(zip(table["model"], table["weights"], table["data"], strict=True)) == {
        ("pvgg16-cifar", "cifar10", "samples-cifar10")
    }
    assert sorted(set(table["timestep"])) == [0, 1]


def test_every_file_of_ours_that_is_not_shipped_is_the_users() -> None:
    entry = next(entry for entry in MODELS["pvgg16-cifar"].weights if entry.tag == "cifar10")
    assert all(isinstance(source, UserFile) for source in entry.sources.values())
