"""Images and arrays from strangers: refused in one line, or decoded to what they show."""

import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcbench.data.arrays import read_image_array
from pcbench.data.dataset import DATA
from pcbench.data.geometry import Geometry
from pcbench.data.images import BadImageError, decode_file, is_uniform
from pcbench.data.registry import load_data
from pcbench.errors import UserError
from pcbench.harness.images import Images
from pcbench.models.checkpoints import read as read_checkpoint
from pcbench.models.pickles import read_pickled
from pcbench.toml import read_toml

pytestmark = pytest.mark.timeout(60)

PHOTO = (np.add.outer(np.arange(40) * 5, np.arange(48)) % 256).astype(np.uint8)  # (40, 48), not symmetric
UPRIGHT = np.stack([PHOTO, 255 - PHOTO, PHOTO // 2], axis=2)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def grey16(form: str) -> bytes:
    values = PHOTO.astype(np.uint16) * 257
    if form == "PGM":
        return b"P5 48 40 65535\n" + values.astype(">u2").tobytes()
    return saved(Image.fromarray(values), form)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PGM"])
def test_16_bits_of_grey_are_decoded_over_their_whole_range(form: str) -> None:
    np.testing.assert_array_equal(decode_file("x", grey16(form)), np.stack([PHOTO] * 3, axis=2))


@pytest.mark.parametrize("values", [PHOTO.astype(np.int32) * 1000, PHOTO.astype(np.float32) / 255])
def test_values_without_a_known_white_are_refused_by_name(values: np.ndarray) -> None:
    content = saved(Image.fromarray(values), "TIFF")
    with pytest.raises(BadImageError, match=r"image a\.tif cannot be decoded: .*white is not known"):
        decode_file("a.tif", content)


def test_tiff_planes_of_16_bits_are_refused() -> None:
    """Pillow takes their lower bytes."""
    planes = (UPRIGHT.astype(np.uint16) * 256).transpose(2, 0, 1).astype("<u2").tobytes()
    size = len(planes) // 3
    begin = 8 + 2 + 9 * 12 + 4  # of what does not fit into the entries
    entries = [(256, 3, 1, 48), (257, 3, 1, 40), (258, 3, 3, begin), (259, 3, 1, 1), (262, 3, 1, 2),
               (273, 4, 3, begin + 6), (277, 3, 1, 3), (279, 4, 3, begin + 18), (284, 3, 1, 2)]  # fmt: skip
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    offsets = [begin + 30 + i * size for i in range(3)]
    content = head + bytes(4) + struct.pack("<3H3I3I", 16, 16, 16, *offsets, size, size, size) + planes
    with pytest.raises(BadImageError, match="16 bits a colour, in planes"):
        decode_file("a.tif", content)


def test_a_16_bit_tiff_with_white_at_zero_is_refused() -> None:
    content = saved(Image.fromarray(PHOTO.astype(np.uint16) * 257), "TIFF")
    tag = struct.pack("<HHIH", 262, 3, 1, 1)
    assert content.count(tag) == 1
    with pytest.raises(BadImageError, match="white is not known"):
        decode_file("a.tif", content.replace(tag, struct.pack("<HHIH", 262, 3, 1, 0)))


# orientation -> what turns the stored picture upright
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_images_are_turned_upright_as_their_exif_orientation_says(orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    content = saved(Image.fromarray(UPRIGHT), form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    np.testing.assert_array_equal(decode_file("x", content), TURNS[orientation](UPRIGHT))


def test_16_bits_of_grey_are_turned_upright_too() -> None:
    exif = Image.Exif()
    exif[274] = 6
    content = saved(Image.fromarray(PHOTO.astype(np.uint16) * 257), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_file("x", content)[..., 0], np.rot90(PHOTO, -1))


def class_folder(root: Path, special: str) -> Path:
    folder = root / "data" / "cat"
    folder.mkdir(parents=True)
    Image.fromarray(UPRIGHT).save(folder / "a.png")
    path = folder / "b.png"
    if special == "named pipe":
        os.mkfifo(path)
    elif special == "device":
        path.symlink_to("/dev/zero")
    elif special == "symbolic links":
        path.symlink_to(path)
    elif special == "too large":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.symlink_to(root / "missing")
    return root / "data"


def prepare(path: Path, skip_bad: bool) -> Images:
    return Images(load_data(str(path)), [Geometry((32, 32), 32)], None, skip_bad, [], 1)


@pytest.mark.parametrize("special", ["named pipe", "device", "symbolic links", "too large", "no image cat/b.png"])
def test_what_is_no_image_file_is_refused_or_skipped(special: str, tmp_path: Path) -> None:
    root = class_folder(tmp_path, special)
    with pytest.raises(UserError, match=rf"cat/b\.png.*{special}|{special}.*skip-bad-images"):
        prepare(root, skip_bad=False)
    images = prepare(root, skip_bad=True)
    try:
        assert (images.ids, images.skipped) == (["cat/a.png"], ["cat/b.png"])
    finally:
        images.close()


def test_images_that_are_linked_from_elsewhere_are_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "store").mkdir()
    Image.fromarray(UPRIGHT).save(tmp_path / "store" / "a.png")
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "b.png").symlink_to(tmp_path / "store" / "a.png")
    images = load_data(str(tmp_path / "data"))
    assert images.ids == ["cat/a.png", "cat/b.png"]
    np.testing.assert_array_equal(images.read(1), UPRIGHT)


def test_images_of_one_colour_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cat"
    folder.mkdir(parents=True)
    Image.fromarray(UPRIGHT).save(folder / "a.png")
    for name in ("b", "c"):
        Image.new("RGB", (40, 40), (3, 2, 1)).save(folder / f"{name}.png")
    images = prepare(tmp_path / "data", skip_bad=False)
    try:
        assert images.notices == ["data data: 2 images are of one colour only, cat/b.png for one"]
    finally:
        images.close()
    assert not is_uniform(UPRIGHT)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cat"
    folder.mkdir(parents=True)
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("the file system takes no such names")
    with pytest.raises(UserError, match="has a name that is not UTF-8"):
        load_data(str(tmp_path / "data"))


READERS: dict[str, Callable[[Path], object]] = {
    "x.npz": lambda path: load_data(str(path)),
    "fog.npy": lambda path: load_data(str(path.parent)),
    "labels.npy": lambda path: load_data(str(path.parent)),
    "suite.toml": lambda path: read_toml(path, "suite file suite.toml"),
    "weights.pth": read_pickled,
    "weights.safetensors": read_checkpoint,
}


@pytest.mark.parametrize("name", READERS)
def test_a_named_pipe_in_the_place_of_a_file_does_not_hang(name: str, tmp_path: Path) -> None:
    for other in ("fog.npy", "labels.npy"):
        np.save(tmp_path / other, np.zeros((10, 32, 32, 3), np.uint8))
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match=f"{name}.* is a named pipe, not a regular file"):
        READERS[name](tmp_path / name)


def npy(header: bytes, version: int = 1) -> bytes:
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header


def described(dtype: str, shape: tuple[int, ...]) -> bytes:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()


def zeros_in_zip(path: Path, arrays: dict[str, tuple[bytes, int]]) -> None:
    """A .npz file of arrays that are a header and very many zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (header, count) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(header)
                for _ in range(count >> 20):
                    file.write(bytes(1 << 20))


BOMBS = {
    "images": {
        "x_test": (npy(described("|u1", (100, 2048, 1024, 3))), 600 << 20),
        "y_test": (npy(described("|u1", (100,))) + bytes(100), 0),
    },
    "labels": {
        "x_test": (npy(described("|u1", (1, 2, 2, 3))) + bytes(12), 0),
        "y_test": (npy(described("|u1", (600 << 20,))), 600 << 20),
    },
    "header": {"x_test": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 600 << 20), 600 << 20)},
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_that_unpacks_to_very_much_is_refused_unread(bomb: str, tmp_path: Path) -> None:
    zeros_in_zip(tmp_path / "x.npz", BOMBS[bomb])
    assert (tmp_path / "x.npz").stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"x\.npz"):
            read_image_array(tmp_path / "x.npz", "x", "test", DATA["imagenet"]).read(0)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_an_archive_with_very_many_entries_is_refused_before_they_are_listed(tmp_path: Path) -> None:
    entry = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"x"
    count = 100_000
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, len(entry) * count, 0, 0)
    (tmp_path / "x.npz").write_bytes(entry * count + end)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"x\.npz is not a readable \.npz file: its list of contents is longer"):
            load_data(str(tmp_path / "x.npz"))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_header_of_an_array_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "fog.npy").open("wb") as file:
        file.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", 3 << 30))
        file.truncate(4 << 30)
    np.save(tmp_path / "labels.npy", np.zeros(50_000, np.uint8))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"fog\.npy is not a readable \.npy file: its header claims"):
            load_data(str(tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", ["a." * 100_000 + "b = 1", "[" + "'a' . " * 100_000 + "b]", "x = " + "[" * 100_000])
def test_toml_that_is_nested_without_end_is_refused_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(UserError, match=r"suite file x\.toml is not valid TOML"):
        read_toml(tmp_path / "x.toml", "suite file x.toml")


def test_toml_that_is_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("#" * (1 << 20) + "\n")
    with pytest.raises(UserError, match="too large"):
        read_toml(tmp_path / "x.toml", "suite file x.toml")
