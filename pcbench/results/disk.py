"""Files of a results directory: read without trust, written whole or not at all.

Whatever lies in such a directory may come from a stranger. Links are never followed, only regular files are opened, and
nothing is read that is larger than it can be.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from pcbench.errors import RunError, UserError

_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | _FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
PART = ".part-"


def open_regular(path: Path, most: int) -> BinaryIO:
    """A regular file, opened for reading without blocking and without following a link.

    Raises:
        OSError: it is not there, a link, a pipe, a device or a folder, or larger than `most` bytes.
    """
    descriptor = os.open(path, _READ)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if found.st_size > most:
            raise OSError(errno.EFBIG, f"{found.st_size} bytes, more than such a file has")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_text(path: Path, most: int) -> str:
    """A small text file. Raises OSError as `open_regular`, and UnicodeDecodeError."""
    with open_regular(path, most) as file:
        return file.read(most + 1).decode("utf-8")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is, at any moment and after a crash, either the old one or the new one, whole.

    The temporary name cannot be foreseen and is made anew, so that no link that lies there is written through.

    Raises:
        RunError: the disk is full, or the place cannot be written.
    """
    temporary = path.with_name(f"{PART}{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, _WRITE, 0o644)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105 - replaces a link itself, never what it points to
        except BaseException:
            with contextlib.suppress(OSError):  # the first error says it all
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"cannot write {path.name}: {error.strerror or error}; what was finished is kept") from None


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a crash of the machine, where the system knows how."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, which must not be a link. Raises RunError, UserError."""
    if path.is_symlink():
        raise UserError(f"{path} is a link; pcbench writes to real folders only")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {path}: {error.strerror}") from None


@contextlib.contextmanager
def locked(path: Path, wait: float) -> Iterator[bool]:
    """Hold a lock file; gives False when another process holds it for longer than `wait` seconds.

    On a file system without locks (some parallel ones) nobody can be kept out: files are written whole in any case, and
    the worst that happens is work done twice. The lock ends with the process, however that ends.
    """
    lock = FileLock(path, timeout=wait)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENOENT):
            raise RunError(f"cannot write to {path.parent}: {error.strerror}") from None
        yield True
        return
    try:
        yield True
    finally:
        lock.release()
