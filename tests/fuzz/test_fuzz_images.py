"""Images and arrays: what people download by the gigabyte."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from mutations import guarded, survive
from PIL import Image

from pcbench.data import corrupted
from pcbench.data.arrays import read_image_array
from pcbench.data.dataset import DATA
from pcbench.data.images import decode_file
from pcbench.errors import UserError
from pcbench.perturbations.corruptions.export import _open_journal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]

Reading = Callable[[str, Callable[[Path], object]], Callable[[bytes], object]]
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)


def picture(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, form, **options)
    return buffer.getvalue()


FORMS = {
    "jpeg": [picture("JPEG"), picture("JPEG", progressive=True, quality=40)],
    "png": [picture("PNG"), picture("PNG", compress_level=0)],
    "webp": [picture("WEBP"), picture("WEBP", lossless=True)],
    "others": [picture("BMP"), picture("PPM"), picture("TIFF"), picture("TIFF", compression="tiff_lzw")],
}


@pytest.mark.parametrize("form", FORMS)
def test_image_files(form: str) -> None:
    def decode(content: bytes) -> None:
        image = decode_file("x.png", content)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3

    survive(decode, FORMS[form])


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


LABELS = np.array([1, 0])
ARRAYS = {"x_test": np.stack([PIXELS, PIXELS]), "y_test": LABELS}


def test_arrays_of_images(reading: Reading) -> None:
    plain = io.BytesIO()
    np.savez(plain, **ARRAYS)  # type: ignore[arg-type]

    def read(path: Path) -> None:
        images = read_image_array(path, "x", "test", DATA["imagenet"])
        assert images.read(0).dtype == np.uint8

    survive(reading("x.npz", read), [npz(**ARRAYS), plain.getvalue()])


def test_arrays_of_a_corrupted_copy(reading: Reading, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATA, "_entries", {"cifar10": replace(DATA["cifar10"], test_images=2)})
    np.save(folder / "fog.npy", np.zeros((10, 32, 32, 3), np.uint8))
    buffer = io.BytesIO()
    np.save(buffer, np.tile(LABELS, 5))

    survive(reading("labels.npy", lambda path: corrupted.read_cifar_c(folder, "copy").labels), [buffer.getvalue()])


def test_the_manifest_of_a_copy_that_is_being_written(reading: Reading, folder: Path) -> None:
    settings: dict[str, object] = {"seed": 1, "corruptions": ["fog"]}
    manifest = json.dumps({"settings": settings, "files": {"fog/1/a.png": "00"}}).encode()
    journal = f'{json.dumps(settings)}\n["fog/1/a.png", "00"]\n'.encode()
    survive(reading("manifest.json", lambda path: _open_journal(path.parent, settings)), [manifest])
    (folder / "manifest.json").unlink()
    name = next(path.name for path in folder.iterdir())
    survive(reading(name, lambda path: _open_journal(path.parent, settings)), [journal])


def huge_png(side: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [12_000, 1_000_000])
def test_an_image_that_claims_too_many_pixels_is_refused_before_memory_is_taken(side: int) -> None:
    with guarded(), pytest.raises(UserError, match="pixels"):
        decode_file("x.png", huge_png(side))


def test_a_program_is_never_started_for_an_image() -> None:
    """PostScript is a program, which the image library would hand to an interpreter."""
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with guarded(), pytest.raises(UserError, match=r"x\.jpg cannot be decoded"):
        decode_file("x.jpg", postscript)


@pytest.mark.parametrize("claims", [10**12, 10**18, 10**30])
def test_an_array_that_claims_too_much_is_refused_before_memory_is_taken(folder: Path, claims: int) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({claims}, 1, 1, 3), }}".encode().ljust(117) + b"\n"
    with zipfile.ZipFile(folder / "x.npz", "w") as file:
        file.writestr("x_test.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(100))
    with guarded(), pytest.raises(UserError, match=r"x\.npz"):
        read_image_array(folder / "x.npz", "x", "test", DATA["imagenet"]).read(0)


def test_an_array_that_memory_does_not_hold_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "x.npz").write_bytes(npz(x_test=np.zeros((40, 32, 32, 3), np.uint8), y_test=np.zeros(40, int)))
    assert read_image_array(folder / "x.npz", "x", "test", DATA["imagenet"]).read(0).shape == (32, 32, 3)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=40 * 3 * 1024 - 1))
    with pytest.raises(UserError, match=r"x_test\.npy needs 0\.0 GB of memory"):
        read_image_array(folder / "x.npz", "x", "test", DATA["imagenet"]).read(0)
