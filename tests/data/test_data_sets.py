"""A data set is one literal: everything that reads, names, corrupts or trains on data knows it from there."""

import ast
import hashlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

import pcbench
from pcbench.data.classes import class_indices, class_names
from pcbench.data.dataset import DATA
from pcbench.data.paths import users_copy
from pcbench.data.registry import choose_data, list_data, load_data, load_part
from pcbench.errors import UserError
from pcbench.keys import Condition


def pixels(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.fixture
def torchvision_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-100 as torchvision has it, of a few images."""
    folder = tmp_path / "root" / "cifar-100-python"
    folder.mkdir(parents=True)
    sums = {}
    for file, count in (("train", 6), ("test", 4), ("meta", 0)):
        rows = pixels(count).reshape(count, 3072 // 3, 3).transpose(0, 2, 1).reshape(count, 3072)
        content = {"data": rows, "fine_labels": [99 - i for i in range(count)]}
        content = content if count else {"fine_label_names": list(class_names("cifar100"))}
        (folder / file).write_bytes(pickle.dumps(content))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", {**datasets.CIFAR100.meta, "md5": sums["meta"]})
    return folder


def test_cifar100_is_read_from_torchvisions_files(torchvision_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (torchvision_files, torchvision_files.parent):
        images = load_data(str(path))
        assert (images.label_space, images.labels, images.ids[0]) == ("cifar100", [99, 98, 97, 96], "test/00000")
        np.testing.assert_array_equal(images.subset([2]).read(0), pixels(4)[2])
    monkeypatch.setenv("PCBENCH_CIFAR100", str(torchvision_files))
    chosen, notice = choose_data(None, "cifar100")
    assert (chosen.name, len(chosen), notice) == ("cifar100", 4, "data: cifar100, 10,000 CIFAR-100 test images")
    training = load_part("cifar100", "train")
    assert training is not None
    assert (training.name, len(training), training.ids[5]) == ("cifar100", 6, "train/00005")
    (torchvision_files / "test").write_bytes(b"other")
    with pytest.raises(UserError, match="not torchvision's CIFAR100"):
        load_data("cifar100")


def test_cifar100_is_read_from_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.npz"
    np.savez(path, x_test=pixels(3), y_test=[0, 50, 99], x_train=pixels(2), y_train=[1, 2])
    images = load_data(str(path))
    assert (images.label_space, images.labels, len(images)) == ("cifar100", [0, 50, 99], 3)
    np.savez(path, x_test=pixels(3), y_test=[0, 5, 9], label_space="cifar100")  # which the labels alone do not say
    assert load_data(str(path)).label_space == "cifar100"
    np.savez(path, x_test=pixels(3), y_test=[0, 5, 9])
    assert load_data(str(path)).label_space == "cifar10"
    monkeypatch.setenv("PCBENCH_CIFAR100", str(path))
    assert load_data("cifar100").label_space == "cifar100"
    for arrays, words in {
        "label_space": ({"label_space": "cifar1000"}, r"no data set 'cifar1000'; did you mean cifar100"),
        "labels": ({"y_test": [0, 5, 100]}, r"labels up to 100 of images of 32 x 32 pixels, which no known data set"),
        "size": ({"x_test": pixels(3, 64), "label_space": "cifar10"}, "64 x 64 pixels; those of cifar10 have 32 x 32"),
        "number": ({"y_test": [0, 5]}, "3 images and labels that are int64"),
        "negative": ({"y_test": [0, 5, -1]}, r"labels lie in -1\.\.5; cifar10 has 0\.\.9"),
    }.values():
        np.savez(path, **{"x_test": pixels(3), "y_test": [0, 5, 9], **arrays})
        with pytest.raises(UserError, match=words):
            load_data(str(path))


@pytest.mark.parametrize(("count", "space"), [(10, "cifar10"), (100, "cifar100")])
def test_a_corrupted_copy_on_disk_is_known_by_its_labels(count: int, space: str, tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.arange(10_000, dtype=np.int64) % count)
    array = np.lib.format.open_memmap(tmp_path / "fog.npy", mode="w+", dtype=np.uint8, shape=(50_000, 32, 32, 3))
    array[30_000 + 7] = 4
    array.flush()
    chosen, _ = choose_data(str(tmp_path), space)
    variant = chosen.subset([7]).variant(Condition("corruption", "fog", "weather", 4, {}))
    assert variant is not None
    assert (chosen.has_clean, len(chosen), variant.labels, variant.ids) == (False, 10_000, [7], ["test/00007"])
    assert (variant.read(0) == 4).all()
    assert load_part(str(tmp_path), "test") is None
    with pytest.raises(UserError, match="corrupted copy, which is for evaluation"):
        load_part(str(tmp_path), "train")
    np.save(tmp_path / "labels.npy", np.arange(9_000) % count)
    np.lib.format.open_memmap(tmp_path / "fog.npy", mode="w+", dtype=np.uint8, shape=(45_000, 32, 32, 3)).flush()
    with pytest.raises(UserError, match=f"partial copy: 9,000 images a severity, of the 10,000 of {space}"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("space", ["imagenet", "cifar10", "cifar100"])
def test_the_samples_of_a_data_set_stand_in_for_it(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(f"PCBENCH_{space.upper()}", raising=False)
    for name in (None, "samples"):
        images, notice = choose_data(name, space)
        assert (len(images), images.label_space) == (20, space)
        assert max(images.labels) < len(class_names(space))
        assert name or f"PCBENCH_{space.upper()}" in str(notice)


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of somebody else's: all that it takes."""
    names = DATA.names()
    monkeypatch.setattr(DATA, "_entries", {name: DATA[name] for name in names})
    mine = users_copy(
        "colours",
        "6 colours",
        "PCBENCH_COLOURS",
        "set PCBENCH_COLOURS to a folder",
        classes=lambda: ("red", "cat"),
        side=40,
        test_images=6,
    )
    DATA.register("colours", mine)


def test_one_literal_is_all_that_a_data_set_takes(
    colours: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, count in (("train", 2), ("test", 1)):
        for index in range(count):
            path = tmp_path / "set" / part / "red" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(1, 40)[0]).save(path)
    images = load_data(str(tmp_path / "set"))
    assert (images.label_space, images.labels) == ("colours", [0])
    training = load_part(str(tmp_path / "set"), "train")
    assert training is not None
    assert training.ids == ["red/0.png", "red/1.png"]
    np.savez(tmp_path / "c.npz", x_test=pixels(3, 40), y_test=[0, 1, 1])
    assert load_data(str(tmp_path / "c.npz")).label_space == "colours"
    (tmp_path / "copy").mkdir()
    np.save(tmp_path / "copy" / "fog.npy", pixels(30, 40))
    np.save(tmp_path / "copy" / "labels.npy", [0, 1] * 15)
    assert load_data(str(tmp_path / "copy")).label_space == "colours"
    with pytest.raises(UserError, match="no data for models of colours at hand"):
        choose_data(None, "colours")
    monkeypatch.setenv("PCBENCH_COLOURS", str(tmp_path / "set"))
    assert choose_data(None, "colours")[0].name == "colours"
    assert {"name": "colours", "description": "6 colours", "label_space": "colours", "at_hand": True,
            "needs": "set PCBENCH_COLOURS to a folder"} in list_data()  # fmt: skip
    monkeypatch.setenv("PCBENCH_COLOURS", str(tmp_path / "copy"))
    with pytest.raises(UserError, match="PCBENCH_COLOURS names a corrupted copy, whose place is --data"):
        load_data("colours")


def test_a_corrupted_copy_is_written_of_any_data_set(colours: None, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from pcbench.cli.corrupt import command

    np.savez(tmp_path / "c.npz", x_test=pixels(3, 40), y_test=[0, 1, 1])
    words = ["--data", str(tmp_path / "c.npz"), "--output", str(tmp_path / "out"), "--name", "contrast"]
    CliRunner().invoke(command, [*words, "--severity", "1", "--format", "png"], catch_exceptions=False)
    copy = load_data(str(tmp_path / "out"))
    assert (copy.label_space, copy.labels, copy.read(0).shape) == ("colours", [1, 1, 0], (40, 40, 3))


def test_class_folders_that_two_data_sets_have_are_refused_unless_it_is_said_which(colours: None) -> None:
    assert class_indices(["cat", "dog"], "x") == ("cifar10", {"cat": 3, "dog": 5})
    assert class_indices(["cat"], "x", DATA["colours"]) == ("colours", {"cat": 1})
    with pytest.raises(UserError, match="class folders that are of cifar10 and of colours"):
        class_indices(["cat"], "x")


def test_data_parts_are_what_they_are_called(tmp_path: Path) -> None:
    for folder in ("val/cat", "plain/cat"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(pixels(1)[0]).save(tmp_path / folder / "one.png")
    with pytest.raises(UserError, match="has val/ but no train/"):
        load_part(str(tmp_path), "train")  # not silently the images that accuracy is reported on
    assert load_part(str(tmp_path / "plain"), "test") is None
    assert len(load_part(str(tmp_path / "plain"), "train") or ()) == 1


def test_a_function_of_the_users_gives_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_data_functions.py").write_text(
        "from pcbench.data.registry import load_data\nfrom pcbench.data.dataset import DATA\n"
        "def images(): return load_data('samples').subset([1, 2])\ndef one(): return DATA['samples']\n"
        "from pcbench.data.paths import users_copy\n"
        "def own(): return users_copy('own', '', 'PCBENCH_OWN', '', classes=lambda: ('dog', 'cat'))\n"
        "def nothing(): return 3\ndef fails(): raise KeyError('x')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert len(load_data("my_data_functions:images")) == 2
    assert len(load_data("my_data_functions:one")) == 20
    assert choose_data("my_data_functions:images", "imagenet")[1] is None
    assert load_part("my_data_functions:images", "test") is None
    assert len(load_part("my_data_functions:images", "train") or ()) == 2
    (tmp_path / "own" / "dog").mkdir(parents=True)
    Image.fromarray(pixels(1)[0]).save(tmp_path / "own" / "dog" / "one.png")
    monkeypatch.setenv("PCBENCH_OWN", str(tmp_path / "own"))
    mine = load_data("my_data_functions:own")  # classes that are registered nowhere, and which others have too
    assert (mine.label_space, mine.labels) == ("own", [0])
    for name, words in {
        "my_data_functions:nothing": "is of type int; it must be an ImageSet or a DataSet",
        "my_data_functions:fails": "my_data_functions:fails cannot be made: KeyError: 'x'",
        "my_data_functions:other": "module my_data_functions has no 'other'",
        "my_missing_module:images": "there is no module 'my_missing_module'",
    }.items():
        with pytest.raises(UserError, match=words):
            load_data(name)
    sys.modules.pop("my_data_functions")


def test_no_module_but_its_own_file_names_a_data_set() -> None:
    package = Path(pcbench.__file__).parent
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "data" / "sets") or path.is_relative_to(package / "models"):
            continue  # tables of models have tags of weights, and say whose classes a network knows
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not str(node.module).startswith("pcbench.data.sets"), path
            if isinstance(node, ast.Dict):
                keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
                assert not keys & {"imagenet", "cifar10", "cifar100"}, f"a table of data sets in {path}"
