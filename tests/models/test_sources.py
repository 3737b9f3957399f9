import hashlib
import os
from pathlib import Path

import pytest
import torch

from pcbench.errors import UserError
from pcbench.models import sources
from pcbench.models.sources import InstalledFile, TimmFile, TorchvisionFile, UserFile, sha256, shown, weights_folder


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path / "mine"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sha256.cache_clear()


def test_an_installed_file_is_verified() -> None:
    content = Path(sources.__file__).with_name("__init__.py").read_bytes()
    good = InstalledFile("pcbench.models", "__init__.py", hashlib.sha256(content).hexdigest())
    assert good.at_hand()
    assert good.path().read_bytes() == content
    other = InstalledFile("pcbench.models", "__init__.py", "0" * 64, version="0.9")
    refused = r"weights __init__.py of .* damaged, or of another version: checksum .*; pip install pcbench==0\.9$"
    with pytest.raises(UserError, match=refused):
        other.path()


def test_a_missing_installed_file_says_what_to_install() -> None:
    missing = InstalledFile("no_such_package", "w.pth", "0" * 64, "no-such-package")
    assert not missing.at_hand()
    with pytest.raises(UserError, match="pip install no-such-package"):
        missing.path()


def test_the_users_folder_is_the_variable_or_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_folder() == tmp_path / "mine"
    file = UserFile("w.safetensors", "pcbench weights import pvgg16 FILES")
    assert not file.at_hand()
    assert file.describe() == "$PCBENCH_WEIGHTS/w.safetensors (make it with: pcbench weights import pvgg16 FILES)"
    with pytest.raises(UserError, match=r"weights are missing: .PCBENCH_WEIGHTS/w.safetensors"):
        file.path()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "w.safetensors").touch()
    assert file.at_hand()
    assert file.path() == tmp_path / "mine" / "w.safetensors"
    monkeypatch.delenv("PCBENCH_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights_folder().is_relative_to(Path.home()) or weights_folder() == tmp_path / "cache/pcbench/weights"


def test_places_are_named_without_the_machines_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_ROOT", str(tmp_path))
    assert shown(tmp_path / "a" / "b", ["OTHER_ROOT", "SOME_ROOT"]) == "$SOME_ROOT/a/b"
    assert shown(Path.home() / "x") == "~/x"
    assert shown(Path("/somewhere/else")) == "/somewhere/else"


def test_torchvision_weights_are_looked_for_in_its_own_cache(tmp_path: Path) -> None:
    file = TorchvisionFile("VGG16_Weights.IMAGENET1K_V1")
    assert not file.at_hand()
    assert file.describe().startswith("$TORCH_HOME/hub/checkpoints/vgg16-397923af.pth (downloaded from https://")
    with pytest.raises(UserError, match=r"vgg16-397923af.pth .*HF_HUB_OFFLINE forbids the download"):
        file.path()
    cached = tmp_path / "torch/hub/checkpoints/vgg16-397923af.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"not those weights")
    assert file.at_hand()
    with pytest.raises(UserError, match=r"vgg16-397923af.pth are damaged: checksum .*; delete the file"):
        file.path()


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"the download failed: no route$"):
        TorchvisionFile("VGG16_Weights.IMAGENET1K_V1").path()


def test_timm_weights_are_looked_for_in_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf/hub"))
    file = TimmFile("efficientnet_b0.ra_in1k")
    assert not file.at_hand()
    assert file.describe().startswith("model.safetensors in $HF_HOME/hub/models--timm--efficientnet_b0.ra_in1k (down")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids the download"):
        file.path()
    folder = tmp_path / "hf/hub/models--timm--efficientnet_b0.ra_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    (folder / "snapshots/abc").mkdir(parents=True)
    (folder / "snapshots/abc/pytorch_model.bin").touch()
    found = file.path()
    assert file.at_hand()
    assert found.name == "pytorch_model.bin"


def test_unknown_weights_of_timm_are_a_user_error() -> None:
    with pytest.raises(UserError, match=r"timm publishes no weights 'efficientnet_b0.never'"):
        TimmFile("efficientnet_b0.never").at_hand()


def test_asking_what_is_at_hand_uses_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.delenv("HF_HUB_OFFLINE")

    def forbidden(*arguments: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    for source in [TimmFile("efficientnet_b0.ra_in1k"), TorchvisionFile("VGG16_Weights.IMAGENET1K_V1")]:
        source.at_hand()
        source.describe()
    assert os.environ["TORCH_HOME"]
