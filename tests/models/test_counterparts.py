"""pvgg16 and vgg16 fall back on the weights of their CIFAR-10 counterparts, and never let a result pass for another."""

from pathlib import Path

import pytest
import torch

from pcbench.cli.app import main
from pcbench.errors import UserError
from pcbench.models.checkpoints import Metadata, configuration_hash, feedback_tensors, save
from pcbench.models.listing import describe_model
from pcbench.models.resolve import choose, load_model
from pcbench.models.predictive.classifier import PredictiveClassifier
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
def test_the_counterpart_is_used_with_a_notice_when_nothing_else_is_at_hand(name: str, mine: Path) -> None:
    choice = choose(name)
    assert choice.weights.tag == "cifar10"
    assert choice.notice is not None
    assert choice.notice.startswith(f"{name}: using weights 'cifar10' of the network {name}-cifar (cifar10), since ")
    assert "'imagenet1k' is not at hand: missing" in choice.notice
    model, other = load_model(name), load_model(f"{name}-cifar", "cifar10")
    assert (model.name, model.weights, model.num_classes) == (name, "cifar10", 10)
    assert model.provenance["network"] == f"{name}-cifar"
    assert model.provenance["sha256"] == other.provenance["sha256"]
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(images, timesteps=1), other(images, timesteps=1))


def test_a_named_tag_says_whose_weights_it_is(mine: Path) -> None:
    notice = choose("pvgg16", "cifar10").notice
    assert notice == "pvgg16: weights 'cifar10' are those of the network pvgg16-cifar"
    assert choose("pvgg16-cifar", "cifar10").notice is None


def test_random_weights_are_those_of_the_network_itself() -> None:
    assert load_model("pvgg16?dynamics=no-error", "random").num_classes == 1000
    assert choose("vgg16", "random").weights.data == "imagenet"


def test_a_network_that_is_made_predictive_keeps_to_its_own_weights() -> None:
    for name in ("predify:vgg16", "pvgg16"):
        spec = choose(name, "random").spec
        assert [entry.tag for entry in spec.own_weights()] == ["imagenet1k"]


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

    with pytest.raises(UserError, match="those of vgg16-cifar; train that network"):
        from_scratch("vgg16", "cifar10", 0)
    with pytest.raises(UserError, match="those of pvgg16-cifar; train that network"):
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
    assert "of the network pvgg16-cifar" in text
    assert "samples-cifar10" in text
    import pandas as pd

    table = pd.read_csv(tmp_path / "out" / "accuracy.csv")
    assert set(zip(table["model"], table["weights"], table["data"], strict=True)) == {
        ("pvgg16", "cifar10", "samples-cifar10")
    }
    assert sorted(set(table["timestep"])) == [0, 1]


def test_listings_name_the_network_of_borrowed_weights() -> None:
    weights = describe_model("pvgg16", count=False)["weights"]
    assert isinstance(weights, list)
    entries = {entry["tag"]: entry for entry in weights}
    assert entries["cifar10"]["network"] == "pvgg16-cifar"
    assert entries["imagenet1k"]["network"] is None


def test_every_file_of_ours_that_is_not_shipped_is_the_users() -> None:
    entry = next(entry for entry in MODELS["pvgg16-cifar"].weights if entry.tag == "cifar10")
    assert all(isinstance(source, UserFile) for source in entry.sources.values())
