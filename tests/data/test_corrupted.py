"""Published corrupted copies are read as they are, and partial ones are refused."""

import json

import numpy as np
import pytest
from PIL import Image

from pcbench.data.registry import load_data
from pcbench.errors import UserError
from pcbench.keys import Condition
from pcbench.perturbations.corruptions import corrupt
from pcbench.perturbations.corruptions.export import write_copy

CLASSES = ["n01440764", "n01443537"]
SETTINGS = {
    "names": ["fog", "contrast"],
    "severities": [1, 2],
    "seed": 3,
    "variant": "auto",
    "backend": "native",
    "frost_textures": 5,
}


def condition(name, severity, **params):
    return Condition("corruption", name, "weather", severity, params)


def images():
    return np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)


def write(root, form="png", read=None):
    clean = images()
    ids, folders = ["x/one.JPEG", "x/two.JPEG", "y/three.JPEG"], [CLASSES[0], CLASSES[0], CLASSES[1]]
    return write_copy(read or clean.__getitem__, ids, folders, root, {**SETTINGS, "format": form})


def test_a_written_copy_is_read_back_with_its_labels(tmp_path):
    files = json.loads(write(tmp_path / "copy").read_text())["files"]
    assert len(files) == 12
    data = load_data(str(tmp_path / "copy"))
    assert (data.has_clean, data.label_space, data.labels) == (False, "imagenet", [0, 0, 1])
    variant = data.variant(condition("contrast", 2))
    expected = corrupt(images()[2:], "contrast", 2, seed=3, ids=["y/three.JPEG"])[0]
    assert np.array_equal(variant.read(2), expected)
    assert data.subset([2]).variant(condition("contrast", 2)).ids == ["n01443537/three.png"]
    assert data.variant(Condition("clean", "clean", "clean", 0)) is None


def test_jpeg_files_are_what_jpeg85_gives(tmp_path):
    write(tmp_path / "copy", "jpeg")
    made = np.asarray(Image.open(tmp_path / "copy" / "fog" / "1" / CLASSES[0] / "two.JPEG"))
    expected = corrupt(images()[1:2], "fog", 1, seed=3, ids=["x/two.JPEG"], jpeg85=True)[0]
    assert np.array_equal(made, expected)


def test_a_stopped_copy_goes_on_and_ends_the_same(tmp_path):
    whole = json.loads(write(tmp_path / "whole").read_text())
    calls = iter(range(5))

    def stops(position):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return images()[position]

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "copy", read=stops)
    assert json.loads(write(tmp_path / "copy").read_text()) == whole
    with pytest.raises(UserError, match="other settings"):
        write(tmp_path / "copy", "jpeg")


def test_partial_copies_are_refused(tmp_path):
    write(tmp_path / "copy")
    data = load_data(str(tmp_path / "copy"))
    with pytest.raises(UserError, match="no snow"):
        data.variant(condition("snow", 1))
    with pytest.raises(UserError, match="no severity 4 of fog"):
        data.variant(condition("fog", 4))
    for option in ({"jpeg85": True}, {"backend": "reference"}, {"frost_textures": 6}):
        with pytest.raises(UserError, match="stored as it was published"):
            data.variant(condition("fog", 1, **option))
    (tmp_path / "copy" / "fog" / "2" / CLASSES[0] / "two.png").unlink()
    with pytest.raises(UserError, match=r"partial copy: fog/2 lacks 1 of 3 images, n01440764/two\.png first"):
        data.variant(condition("fog", 2))


@pytest.fixture
def cifar_c(tmp_path):
    labels = np.tile(np.arange(10_000, dtype=np.uint8) % 10, 5)
    np.save(tmp_path / "labels.npy", labels)
    array = np.lib.format.open_memmap(tmp_path / "fog.npy", mode="w+", dtype=np.uint8, shape=(50_000, 32, 32, 3))
    for severity in range(1, 6):
        array[(severity - 1) * 10_000 + 7] = severity
    array.flush()
    return tmp_path


def test_cifar_c_arrays_are_read_severity_by_severity(cifar_c):
    data = load_data(str(cifar_c))
    assert (data.label_space, len(data), data.labels[7], data.ids[7]) == ("cifar10", 10_000, 7, "test/00007")
    variant = data.subset([3, 7]).variant(condition("fog", 4))
    assert (variant.ids, variant.labels) == (["test/00003", "test/00007"], [3, 7])
    assert (variant.read(1) == 4).all()


def test_damaged_cifar_c_arrays_are_refused(cifar_c):
    np.save(cifar_c / "fog.npy", np.zeros((10_000, 32, 32, 3), np.uint8))
    with pytest.raises(
        UserError, match=r"fog\.npy has 10,000 images at 5 .* labels\.npy does not fit: uint8 \(50000,\)"
    ):
        load_data(str(cifar_c)).variant(condition("fog", 1))
    np.save(cifar_c / "fog.npy", np.zeros((50_000, 32, 32, 3), np.uint8))
    np.save(cifar_c / "contrast.npy", np.zeros((50_000, 16, 16, 3), np.uint8))
    with pytest.raises(UserError, match=r"contrast\.npy is uint8 .*; it must be uint8 \(50000, 32, 32, 3\)"):
        load_data(str(cifar_c)).variant(condition("contrast", 1))
    np.save(cifar_c / "labels.npy", np.arange(50_000) % 7)
    with pytest.raises(UserError, match="must repeat the same"):
        load_data(str(cifar_c))
    (cifar_c / "labels.npy").unlink()
    with pytest.raises(UserError, match=r"no labels.npy"):
        load_data(str(cifar_c))
