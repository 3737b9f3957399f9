"""`pcbench check`: what conforms is found to, and each way of not conforming by the test that is about it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import pcbench
from pcbench.cli.app import main
from pcbench.errors import UserError
from pcbench.harness.check import check, sample_images
from pcbench.harness.conformance import check_model
from pcbench.harness.width import check_width
from pcbench.models.foreign import network
from pcbench.models.resolve import load_model, resolve
from pcbench.models.spec import MODELS

DECLARED = network(size=32, classes="cifar10", normalises=True, timesteps=2)
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))


class Sound(nn.Module):
    """Conforms; each subclass breaks one rule."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(classes, 48, generator=generator))
        self.register_buffer("count", torch.zeros(1))

    def seen(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)

    def forward(self, images: Tensor, timesteps: int) -> Tensor:
        logits = self.seen(images) @ self.weight.T
        return torch.stack([logits * (1 + t) for t in range(timesteps + 1)])


class Batched(Sound):
    def seen(self, x: Tensor) -> Tensor:
        return super().seen(x) - super().seen(x).mean(0, keepdim=True)


class Noisy(Sound):
    def seen(self, x: Tensor) -> Tensor:
        return super().seen(x + 0.1 * torch.randn_like(x))


class Detached(Sound):
    def seen(self, x: Tensor) -> Tensor:
        return super().seen(x.detach())


class Masked(Sound):
    def forward(self, images: Tensor, timesteps: int) -> Tensor:
        found = super().forward(images, timesteps)
        return torch.cat([found[:1], found[1:] * 0 + found[1:].detach()])


class Counting(Sound):
    def seen(self, x: Tensor) -> Tensor:
        self.count += 1
        return super().seen(x)


class Waking(Sound):
    def seen(self, x: Tensor) -> Tensor:
        self.train()
        return super().seen(x)


class Later(Sound):
    def forward(self, images: Tensor, timesteps: int) -> Tensor:
        return super().forward(images, timesteps) * (1 + timesteps)


class Unpicklable(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.scale = lambda: 1.0


class Bounded(Sound):
    def seen(self, x: Tensor) -> Tensor:
        found = super().seen(x)
        return found / found if torch.is_autocast_enabled("cpu") else found


@pytest.mark.parametrize(
    ("kind", "tests"),
    [
        (Sound, []),
        (Batched, ["does not depend on the others"]),
        (
            Noisy,
            ["the same however far", "does not depend on the others", "same answer", "global", "model.at", "pickled"],
        ),
        (Detached, ["gradients reach"]),
        (Masked, ["gradients reach"]),
        (Counting, ["leaves it as it is", "built again"]),
        (Waking, ["leaves it as it is"]),
        (Later, ["the same however far", "model.at"]),
        (Bounded, ["bfloat16"]),
    ],
)
def test_each_rule_has_a_test_that_sees_it_broken(kind: type[Sound], tests: list[str]) -> None:
    failed = [finding.test for finding in check_model(resolve(DECLARED(kind())), IMAGES) if finding.holds is False]
    assert len(failed) == len(tests), failed
    for test, failing in zip(tests, failed, strict=True):
        assert test in failing


def test_what_cannot_be_copied_is_seen() -> None:
    failed = [finding for finding in check_model(resolve("test_conformance:unpicklable"), IMAGES) if not finding.holds]
    assert [finding.test for finding in failed] == ["it can be pickled"]


@DECLARED
def unpicklable() -> nn.Module:
    return Unpicklable()


@network(size=32, classes="imagenet", normalises=True, timesteps=2)
def narrow() -> nn.Module:
    return Sound()


def test_the_width_is_held_against_the_labels() -> None:
    model = load_model("test_conformance:narrow")
    with pytest.raises(UserError, match="narrow gives 10 logits for each image; the labels are of imagenet: 1000"):
        check_width(model, "imagenet")
    check_width(model, "cifar10")
    check_width(model, "nobody's", [0, 9])
    with pytest.raises(UserError, match="10 logits for each image; label 10 has none"):
        check_width(model, "nobody's", [0, 10])


@pcbench.corruption(group="digital")
def in_place(image: NDArray[np.uint8], severity: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    image[:severity] = rng.integers(255)
    return image


@pcbench.corruption(group="digital")
def globally_random(image: NDArray[np.uint8], severity: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    return np.random.randint(0, 255, image.shape).astype(np.uint8)  # noqa: NPY002


@pytest.mark.parametrize(
    ("thing", "seen"),
    [
        ("in_place", ["it leaves the image that it is given as it is"]),
        ("globally_random", ["does not depend on the others", "the same twice", "global random"]),
    ],
)
def test_corruptions_of_ones_own(thing: str, seen: list[str]) -> None:
    failed = [finding.test for finding in check(f"test_conformance:{thing}").findings if finding.holds is False]
    assert all(any(part in test for test in failed) for part in seen), failed


def test_the_command_says_it_in_words_and_in_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "user_of_check.py").write_text(
        "import pcbench\nfrom torch import nn\n\n@pcbench.network(size=8, classes=3, normalises=True)\n"
        "def net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))\n\n"
        "@pcbench.network(size=8, classes=3, normalises=True)\n"
        "def dead():\n    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3), nn.Threshold(1e9, 0.0))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for name, code, says in (("net", 0, "user_of_check:net conforms"), ("dead", 1, "NO  gradients reach the image")):
        with pytest.raises(SystemExit) as done:
            main(["check", f"user_of_check:{name}"])
        assert (done.value.code or 0) == code
        assert says in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main(["check", "user_of_check:nte"])
    assert done.value.code == 2
    assert "has no 'nte'; did you mean net?" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in MODELS])
def test_every_registered_network_conforms(name: str) -> None:
    narrow = {"width": 0.25} if "width" in MODELS[name].options else {}
    resolved = resolve(name, "random", options=narrow)
    images = sample_images(resolved.preprocessing)[:2]
    failed = [finding for finding in check_model(resolved, images) if finding.holds is False]
    assert failed == []
