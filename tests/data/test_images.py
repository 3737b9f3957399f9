"""Data sets: labels from the canonical list, stable ids, fingerprints, geometry."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcbench.data.classes import class_names
from pcbench.data.geometry import Geometry
from pcbench.data.images import choose_positions, fingerprint
from pcbench.data.registry import choose_data, list_data, load_data
from pcbench.errors import UserError


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 200, 30)).save(path)


def test_samples_are_the_labelled_images_that_foolbox_ships() -> None:
    images = load_data("samples")
    assert len(images) == 20
    assert images.label_space == "imagenet"
    assert images.read(0).shape == (512, 512, 3)
    assert [int(name.split("_")[1]) for name in images.ids] == list(range(20))
    assert load_data("samples-cifar10").read(3).shape == (32, 32, 3)


def test_labels_come_from_wordnet_ids_not_from_folder_order(tmp_path: Path) -> None:
    for wordnet_id in ("n15075141", "n02123045", "n01440764"):
        picture(tmp_path / "set" / wordnet_id / "one.png")
    images = load_data(str(tmp_path / "set"))
    assert dict(zip(images.ids, images.labels, strict=True)) == {
        "n01440764/one.png": 0,
        "n02123045/one.png": 281,  # tabby
        "n15075141/one.png": 999,  # toilet tissue
    }
    assert len(class_names("imagenet")) == 1000


def test_names_and_ids_hold_no_path(tmp_path: Path) -> None:
    picture(tmp_path / "home" / "me" / "val" / "cat" / "one.png")
    picture(tmp_path / "home" / "me" / "val" / "dog" / "one.png")
    images = load_data(str(tmp_path / "home" / "me"))
    assert images.name == "me"
    assert images.ids == ["cat/one.png", "dog/one.png"]
    assert images.label_space == "cifar10"
    assert images.labels == [3, 5]


def test_npz_and_folder_data_are_taken(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "c.npz", x_test=x, y_test=np.arange(6))
    images = load_data(str(tmp_path / "c.npz"))
    assert images.labels == list(range(6))
    np.testing.assert_array_equal(images.read(4), x[4])


def test_without_data_a_run_takes_what_is_at_hand_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PCBENCH_IMAGENET", raising=False)
    images, notice = choose_data(None, "imagenet")
    assert images.name == "samples"
    assert notice is not None
    assert "PCBENCH_IMAGENET" in notice
    picture(tmp_path / "n01440764" / "one.png")
    monkeypatch.setenv("PCBENCH_IMAGENET", str(tmp_path))
    images, notice = choose_data(None, "imagenet")
    assert (images.name, len(images)) == ("imagenet", 1)
    with pytest.raises(UserError, match="labels of imagenet; the models know cifar10"):
        choose_data("imagenet", "cifar10")
    assert {row["name"] for row in list_data()} >= {"samples", "imagenet", "cifar10", "samples-cifar10"}


@given(st.permutations(range(6)))
def test_a_fingerprint_depends_on_ids_labels_and_contents_but_not_on_order(order: list[int]) -> None:
    ids, labels, contents = list("abcdef"), [0, 1, 2, 3, 4, 5], list("uvwxyz")
    reference = fingerprint(ids, labels, contents)
    assert fingerprint(*([values[i] for i in order] for values in (ids, labels, contents))) == reference  # type: ignore[arg-type]
    assert fingerprint([*"abcdeg"], labels, contents) != reference
    assert fingerprint(ids, [0, 1, 2, 3, 4, 6], contents) != reference
    assert fingerprint(ids, labels, [*"uvwxyy"]) != reference


def test_a_limit_is_balanced_over_classes_and_nested() -> None:
    images = load_data("samples-cifar10")
    few, more = choose_positions(images, 7), choose_positions(images, 12)
    assert set(few) < set(more)
    labels = [images.labels[position] for position in few]
    assert len(set(labels)) == min(7, len(set(images.labels)))


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((227, 227), 256, "crop"),  # already prepared
        ((224, 224), 256, "same"),
        ((500, 375), 256, "resize"),
        ((300, 300), 256, "resize"),
        ((100, 100), 256, "resize"),
        ((256, 240), 256, "resize"),  # not square: an ordinary photograph
    ],
)
def test_square_images_between_crop_and_resize_are_only_cropped(
    size: tuple[int, int], resize: int, expected: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    prepared = Geometry((224, 224), resize, "bicubic").prepare(pixels)
    assert prepared.shape == (224, 224, 3)
    top, left = round((size[1] - 224) / 2), round((size[0] - 224) / 2)
    if expected != "resize":
        np.testing.assert_array_equal(prepared, pixels[top : top + 224, left : left + 224])
    else:
        picture = Image.fromarray(pixels)
        scale = resize / min(size)
        size = (int(size[0] * scale), int(size[1] * scale))
        resized = picture.resize(size, Image.Resampling.BICUBIC)
        left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
        np.testing.assert_array_equal(prepared, np.asarray(resized.crop((left, top, left + 224, top + 224))))


@pytest.mark.parametrize(("height", "width"), [(300, 411), (411, 300), (257, 256), (500, 375), (100, 100), (225, 640)])
@pytest.mark.parametrize("size", [(224, 224), (200, 161)])
def test_images_are_prepared_as_torchvision_prepares_them(height: int, width: int, size: tuple[int, int]) -> None:
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    pixels = np.random.default_rng(height + width).integers(0, 256, (height, width, 3), np.uint8)
    for interpolation in ("bilinear", "bicubic"):
        reference = transforms.Compose(
            [transforms.Resize(240, InterpolationMode(interpolation)), transforms.CenterCrop(size)]
        )
        prepared = Geometry(size, 240, interpolation).prepare(pixels)
        np.testing.assert_array_equal(prepared, np.asarray(reference(Image.fromarray(pixels))))
