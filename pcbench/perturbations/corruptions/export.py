"""Write a corrupted copy of a data set in ImageNet-C's layout."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from pcbench.errors import UserError
from pcbench.files import read_file
from pcbench.perturbations.corruptions.engine import corrupt_severities
from pcbench.perturbations.corruptions.jpeg import DISK_QUALITY

MANIFEST = "manifest.json"
_JOURNAL = "manifest.jsonl"  # one line a finished image, so that a killed run loses nothing
_BATCH = 64
_LONGEST = 1 << 30  # bytes of a manifest; that of a whole ImageNet-C has half as many

Image8 = npt.NDArray[np.uint8]


def write_copy(
    read: Callable[[int], Image8],
    ids: Sequence[str],
    folders: Sequence[str],
    output: Path,
    settings: dict[str, object],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write OUTPUT/<corruption>/<severity>/<class folder>/<file> for every image; go on where an earlier run stopped.

    Args:
        read: gives the image at a position, uint8 (H, W, 3).
        ids: of the images; random numbers are keyed by them, and the last part names the file.
        folders: name of each image's class folder.
        output: the folder to write to.
        settings: "names", "severities", "seed", "variant", "backend", "frost_textures", "format" ("jpeg", quality 85
            as ImageNet-C's images are, or "png", lossless), and what else identifies the copy ("data").
        progress: called with the number of files that are there, and of all.

    Returns:
        The manifest: settings, and the SHA-256 of every file.

    Raises:
        UserError: the folder holds something else, or a copy with other settings.
    """
    suffix = {"jpeg": ".JPEG", "png": ".png"}[str(settings["format"])]
    files = [f"{folder}/{PurePosixPath(name).stem}{suffix}" for folder, name in zip(folders, ids, strict=True)]
    if len(set(files)) != len(files):
        raise UserError("two images of the data have the same class and file name; they cannot be written as one copy")
    done = _open_journal(output, settings)
    names, severities = _strings(settings["names"]), _strings(settings["severities"])
    total = len(names) * len(severities) * len(ids)
    with (output / _JOURNAL).open("a") as journal:
        for name in names:
            paths = [[f"{name}/{severity}/{file}" for severity in severities] for file in files]
            left = [i for i, each in enumerate(paths) if not done.keys() >= set(each)]
            for positions, images in _same_size(left, read):
                missing = [k for k in range(len(severities)) if any(paths[i][k] not in done for i in positions)]
                made = corrupt_severities(
                    images,
                    name,
                    [int(severities[k]) for k in missing],
                    seed=int(str(settings["seed"])),
                    ids=[ids[i] for i in positions],
                    backend=str(settings["backend"]),
                    variant=str(settings["variant"]),
                    frost_textures=int(str(settings["frost_textures"])),
                )
                for k, corrupted in zip(missing, made, strict=True):
                    for i, image in zip(positions, corrupted, strict=True):
                        file = paths[i][k]
                        if file not in done:
                            done[file] = _save(image, output / file)
                            journal.write(json.dumps([file, done[file]]) + "\n")
                journal.flush()
                progress(len(done), total)
    manifest = output / MANIFEST
    _replace(manifest, json.dumps({"settings": settings, "files": dict(sorted(done.items()))}, indent=1).encode())
    (output / _JOURNAL).unlink()
    return manifest


def _strings(values: object) -> list[str]:
    assert isinstance(values, list)
    return [str(value) for value in values]


def _same_size(positions: Sequence[int], read: Callable[[int], Image8]) -> Iterator[tuple[list[int], Image8]]:
    """Batches of images that have one size, in order."""
    batch: list[int] = []
    images: list[Image8] = []
    for i in positions:
        image = read(i)
        if images and (len(images) == _BATCH or image.shape != images[0].shape):
            yield batch, np.stack(images)
            batch, images = [], []
        batch.append(i)
        images.append(image)
    if images:
        yield batch, np.stack(images)


def _open_journal(output: Path, settings: dict[str, object]) -> dict[str, str]:
    """The files that an earlier run finished, with their checksums; begins a journal where there is none."""
    output.mkdir(parents=True, exist_ok=True)
    manifest, journal = output / MANIFEST, output / _JOURNAL
    try:
        if manifest.exists():
            earlier = json.loads(_read(manifest))
            found, done = earlier["settings"], dict(earlier["files"])
        elif journal.exists():
            lines = _read(journal).splitlines(keepends=True)
            found = json.loads(lines[0])
            done = dict(json.loads(line) for line in lines[1:] if line.endswith("\n"))
        elif any(output.iterdir()):
            raise UserError(f"{output} is not empty and holds no corrupted copy; name an empty or a new folder")
        else:
            found, done = settings, {}
        different = [key for key in settings if found.get(key) != settings[key]]
        done = {file: digest for file, digest in done.items() if (output / file).is_file()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OSError):
        raise UserError(f"the manifest in {output} cannot be read; name another folder") from None
    if different:
        raise UserError(f"{output} holds a copy made with other settings ({', '.join(different)}); name another folder")
    lines = [json.dumps(settings), *(json.dumps(entry) for entry in done.items())]
    _replace(journal, "".join(f"{line}\n" for line in lines).encode())
    return done


def _read(path: Path) -> str:
    return read_file(path, limit=_LONGEST, what=f"manifest {path.name}", follow=False).decode()


def _save(image: Image8, path: Path) -> str:
    buffer = BytesIO()
    if path.suffix == ".png":
        Image.fromarray(image).save(buffer, "PNG")
    else:
        Image.fromarray(image).save(buffer, "JPEG", quality=DISK_QUALITY, optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
