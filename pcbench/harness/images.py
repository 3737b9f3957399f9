"""The images of a sweep: decoded once, checked, and kept where every process can read them."""

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, Protocol, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from pcbench.data.geometry import Geometry
from pcbench.data.images import BadImageError, Image8, ImageSet, choose_positions, digest, fingerprint, is_uniform
from pcbench.errors import RunError, UserError
from pcbench.keys import Condition, DataKey

_FOLDER, _LOCK = "pcbench-images-", "lock"
_AT_ONCE = 16  # images decoded before the first of them is written
_FINGERPRINTED = 100  # images of each condition of a corrupted copy whose contents its fingerprint covers


@dataclass(frozen=True)
class Prepared:
    """Decoded images of one geometry, in a file that processes map into memory: resident memory does not grow.

    Attributes:
        path: of an array (N, H, W, 3), uint8, row-major.
        shape: of that array.
    """

    path: Path
    shape: tuple[int, int, int, int]

    def part(self, rows: tuple[int, ...]) -> tuple["Prepared", tuple[int, ...]]:
        """What a worker needs for these rows, and their positions in it."""
        return self, rows

    def read(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """(len(rows), H, W, 3)."""
        array = np.memmap(self.path, dtype=np.uint8, mode="r", shape=self.shape)
        return np.array(array[rows[0] : rows[-1] + 1]) if _contiguous(rows) else np.array(array[list(rows)])


@dataclass(frozen=True)
class OnDisk:
    """Images that are decoded each time they are asked for: those of one condition of a corrupted copy."""

    images: ImageSet
    geometry: Geometry

    def part(self, rows: tuple[int, ...]) -> tuple["OnDisk", tuple[int, ...]]:
        """What a worker needs for these rows, and their positions in it: not the names of all images of the set."""
        return OnDisk(self.images.subset(rows), self.geometry), tuple(range(len(rows)))

    def read(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """(len(rows), H, W, 3). Raises BadImageError."""
        return np.stack([self.geometry.prepare(self.images.read(row)) for row in rows])


@dataclass(frozen=True)
class Held:
    """Decoded images that travel with the task."""

    pixels: NDArray[np.uint8]

    def read(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """(len(rows), H, W, 3)."""
        return self.pixels[list(rows)]


Source = Prepared | OnDisk | Held


class Store(Protocol):
    """Where images of one geometry are kept."""

    def read(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """(len(rows), H, W, 3)."""

    def part(self, rows: tuple[int, ...]) -> tuple[Source, tuple[int, ...]]:
        """What a worker needs for these rows, and their positions in it."""


S_co = TypeVar("S_co", bound=Store, covariant=True)


@dataclass(frozen=True)
class View(Generic[S_co]):
    """The images of a run as evaluation sees them; tied to no process, so that it can be sent to others.

    Attributes:
        name, ids, labels, folder: see Images.
        images: the data set, of those images.
        prepared: the decoded images of each geometry.
    """

    name: str
    ids: Sequence[str]
    labels: Sequence[int]
    folder: Path
    images: ImageSet
    prepared: Mapping[Geometry, S_co]

    def source(self, condition: Condition, geometry: Geometry) -> tuple[S_co | OnDisk, bool]:
        """Where the images of a condition are read, and whether they are already perturbed."""
        variant = self.images.variant(condition)
        return (self.prepared[geometry], False) if variant is None else (OnDisk(variant, geometry), True)


def _own_folder() -> tuple[Path, FileLock]:
    """A temporary folder that is locked while its process lives; those whose process was killed are removed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with contextlib.suppress(Timeout, OSError):  # in use, or another user's, who lets nobody look inside
            if (folder / _LOCK).exists():  # else being made this moment
                with FileLock(folder / _LOCK, blocking=False):
                    shutil.rmtree(folder, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER))
    lock = FileLock(folder / _LOCK)
    lock.acquire()
    return folder, lock


def _contiguous(rows: Sequence[int]) -> bool:
    return len(rows) > 0 and list(rows) == list(range(rows[0], rows[0] + len(rows)))


class Images:
    """The images of a run: those that `limit` chose, less the bad ones, with ids, labels and fingerprint.

    Args:
        images: the data set.
        geometries: of the run's models.
        limit: number of images to take, None for all.
        skip_bad: leave out images that cannot be decoded instead of refusing the data set.
        conditions: of the run; what a corrupted copy must have.
        workers: threads that decode.
        progress: called with the number of images done so far, and of all.

    Attributes:
        ids, labels: of the images that are left, in order.
        folder: temporary, removed by `close`; for the images, and for those on their way between processes.
        skipped: ids of those that were left out.
        notices: lines about images that can be decoded, but are not what images are.
        has_clean: whether the set has unperturbed images; the copies of ImageNet-C have none.
        fingerprint: over ids, labels and contents. For a corrupted copy over all ids and labels, and the contents of
            the first 100 images of each condition.

    Raises:
        UserError: an image cannot be decoded, or none is left, or a copy lacks a condition.
        RunError: there is no room for the decoded images.
    """

    def __init__(
        self,
        images: ImageSet,
        geometries: Sequence[Geometry],
        limit: int | None,
        skip_bad: bool,
        conditions: Sequence[Condition],
        workers: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        chosen = images.subset(choose_positions(images, limit))
        self.name = images.name
        self.has_clean = chosen.has_clean
        self.folder, self._lock = _own_folder()
        self.notices: list[str] = []
        self._prepared: dict[Geometry, Prepared] = {}
        try:
            if chosen.has_clean:
                self._decode(chosen, list(dict.fromkeys(geometries)), skip_bad, workers, progress)
            else:
                self._check_copy(chosen, conditions)
        except BaseException:
            self.close()
            raise
        if not self.ids:
            self.close()
            raise UserError(f"data {images.name} has no image that can be decoded")

    @property
    def key(self) -> DataKey:
        """What they are."""
        return DataKey(self.name, self.fingerprint, len(self.ids))

    def view(self) -> View[Prepared]:
        """What evaluation needs of them."""
        return View(self.name, self.ids, self.labels, self.folder, self._set, self._prepared)

    def source(self, condition: Condition, geometry: Geometry) -> tuple[Prepared | OnDisk, bool]:
        """See View."""
        return self.view().source(condition, geometry)

    @property
    def prepared(self) -> Mapping[Geometry, Prepared]:
        """The decoded images of each geometry."""
        return self._prepared

    def close(self) -> None:
        """Remove the decoded images."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()

    def _decode(
        self,
        images: ImageSet,
        geometries: Sequence[Geometry],
        skip_bad: bool,
        workers: int,
        progress: Callable[[int, int], None],
    ) -> None:
        total = len(images)
        need = sum(total * geometry.size[0] * geometry.size[1] * 3 for geometry in geometries)
        free = shutil.disk_usage(self.folder).free
        if need > 0.9 * free:
            raise RunError(
                f"the decoded images need {need / 1e9:.1f} GB of temporary disk space, {free / 1e9:.1f} GB are free; "
                "set TMPDIR to a larger disk, or use --limit"
            )
        paths = [self.folder / f"{index}.u8" for index in range(len(geometries))]

        def one(position: int) -> tuple[str, list[Image8], str | None]:
            try:
                raw = images.raw(position)
                pixels = images.decode(position, raw)
            except BadImageError as error:
                return "", [], str(error)
            if is_uniform(pixels):
                uniform.append(images.ids[position])
            return digest(raw), [geometry.prepare(pixels) for geometry in geometries], None

        uniform: list[str] = []
        digests: dict[int, str] = {}
        self.skipped: list[str] = []
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in paths]
            pool = stack.enter_context(ThreadPoolExecutor(max(1, workers)))
            positions = iter(range(total))
            # written to files rather than maps of them, and a few at a time: resident memory does not grow
            while portion := list(itertools.islice(positions, _AT_ONCE)):
                for position, (content, prepared, problem) in zip(portion, pool.map(one, portion), strict=True):
                    if problem is None:
                        digests[position] = content
                        for file, image in zip(files, prepared, strict=True):
                            self._write(file, image)
                    elif skip_bad:
                        self.skipped.append(images.ids[position])
                    else:
                        pool.shutdown(cancel_futures=True)
                        raise UserError(f"{problem}; --skip-bad-images goes on without it")
                    progress(position + 1, total)
        if uniform:
            are = f"{len(uniform)} images are" if len(uniform) > 1 else "1 image is"
            self.notices.append(f"data {self.name}: {are} of one colour only, {min(uniform)} for one")
        good = list(digests)
        self._set = images.subset(good)
        self.ids, self.labels = self._set.ids, self._set.labels
        self._prepared = {
            geometry: Prepared(path, (len(good), *geometry.size, 3))
            for geometry, path in zip(geometries, paths, strict=True)
        }
        self.fingerprint = fingerprint(self.ids, self.labels, digests.values())

    def _write(self, file: BinaryIO, image: Image8) -> None:
        try:
            file.write(np.ascontiguousarray(image).data)
        except OSError as error:
            raise RunError(
                f"cannot write temporary images: {error.strerror}; set TMPDIR to a larger disk, or use --limit"
            ) from None

    def _check_copy(self, images: ImageSet, conditions: Sequence[Condition]) -> None:
        digests = [""] * len(images)
        for condition in dict.fromkeys((c.kind, c.perturbation, c.severity) for c in conditions):
            first = next(c for c in conditions if (c.kind, c.perturbation, c.severity) == condition)
            variant = images.variant(first)
            if variant is None:
                raise UserError(
                    f"data {images.name} is a corrupted copy without clean images; it has none for {first.perturbation}"
                )
            for row in range(min(_FINGERPRINTED, len(variant))):
                digests[row] = digest((digests[row] + digest(variant.raw(row))).encode())
        self.skipped = []
        self._set = images
        self.ids, self.labels = images.ids, images.labels
        self.fingerprint = fingerprint(self.ids, self.labels, digests)
