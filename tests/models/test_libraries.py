"""The networks of torchvision and timm that have a name of ours."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pcbench.models.feedforward import timm_spec, torchvision_spec
from pcbench.models.spec import MODELS


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "resnet50"])
def test_what_we_say_about_weights_is_what_torchvision_says(name: str) -> None:
    theirs = {entry.sources["network"]: entry.preprocessing for entry in torchvision_spec(name).weights}
    for entry in MODELS[name].weights:
        assert entry.preprocessing == theirs[entry.sources["network"]]


def test_what_we_say_about_weights_is_what_timm_says() -> None:
    (ours,) = MODELS["efficientnet-b0"].weights
    theirs = {entry.sources["network"]: entry.preprocessing for entry in timm_spec("efficientnet_b0").weights}
    assert ours.preprocessing == theirs[ours.sources["network"]]


def test_timms_ways_of_cropping_are_kept_or_refused() -> None:
    from pcbench.data.geometry import Geometry

    squashed = {entry.tag: entry.preprocessing for entry in timm_spec("convnext_base").weights}[
        "clip_laion2b_augreg_ft_in12k_in1k_384"
    ]
    assert (squashed.size, squashed.squash, squashed.resize) == ((384, 384), True, 384)
    wide = np.zeros((100, 200, 3), np.uint8)
    wide[:, :40] = 255  # what a centre crop cuts off
    small = replace(squashed, size=(50, 50), resize=50)
    assert Geometry.of(small).prepare(wide)[:, :8].min() == 255
    assert Geometry.of(replace(small, squash=False)).prepare(wide).max() < 255
    assert Geometry.of(small).prepare(wide).shape == (50, 50, 3)


def test_a_network_of_our_own_imports_neither_library() -> None:
    script = """
import sys
from pcbench.models.resolve import load_model
load_model("vgg16-cifar", weights="random")
print(sorted({"timm", "torchvision"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
