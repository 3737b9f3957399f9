"""The networks of torchvision and timm that have a name of ours."""

import subprocess
import sys

import pytest

from pcbench.models.feedforward import timm_spec, torchvision_spec
from pcbench.models.spec import MODELS


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "resnet50"])
def test_what_we_say_about_weights_is_what_torchvision_says(name: str) -> None:
    theirs = {entry.sources["network"]: entry.preprocessing for entry in torchvision_spec(name).weights}
    for entry in MODELS[name].own_weights():
        assert entry.preprocessing == theirs[entry.sources["network"]]


def test_what_we_say_about_weights_is_what_timm_says() -> None:
    (ours,) = MODELS["efficientnet-b0"].own_weights()
    theirs = {entry.sources["network"]: entry.preprocessing for entry in timm_spec("efficientnet_b0").weights}
    assert ours.preprocessing == theirs[ours.sources["network"]]


def test_a_network_of_our_own_imports_neither_library() -> None:
    script = """
import sys
from pcbench.models.resolve import load_model
load_model("vgg16-cifar", weights="random")
print(sorted({"timm", "torchvision"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
