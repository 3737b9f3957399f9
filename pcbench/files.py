"""Files from outside: opened without waiting, regular ones only, and no more of them read than was agreed on."""

import errno
import io
import os
import stat
from pathlib import Path

from pcbench.errors import UserError

# Not there on every system: O_NONBLOCK, so that a named pipe without a writer does not wait; O_NOCTTY, so that a
# terminal does not become ours; O_BINARY, so that Windows leaves the ends of lines alone.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"))
_CHUNK = 1 << 20

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_file(path: Path, *, what: str, follow: bool, limit: int | None = None) -> io.FileIO:
    """Open a regular file for reading. Never waits, as opening a named pipe would.

    Args:
        path: of the file.
        what: it is, and its name, for messages: "suite file mine.toml".
        follow: whether `path` may be a symbolic link; only its last part is looked at.
        limit: bytes that it may have at most; None for any number.

    Returns:
        The file, unbuffered.

    Raises:
        UserError: it is missing, cannot be read, is not a regular file or, where `follow` is false, is a symbolic link;
            or it has more than `limit` bytes.
    """
    try:
        # Looked at before it is opened, since opening a device can already do something; and after, since it may have
        # been exchanged in between.
        _check_kind(path.stat(follow_symlinks=follow), what)
        descriptor = os.open(path, _FLAGS | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
        try:
            found = os.fstat(descriptor)
            _check_kind(found, what)
            if limit is not None and found.st_size > limit:
                raise _too_large(what, limit, f"{found.st_size:,} bytes")
            return io.FileIO(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise
    except FileNotFoundError:
        raise UserError(f"no {what}") from None
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise UserError(f"{what} is {_KINDS[stat.S_IFLNK]}, not a regular file") from None
        raise _unreadable(what, error) from None
    except ValueError as error:  # no name of a file: it has a null character, or one that the system cannot write
        raise UserError(f"{what} cannot be read: {error}") from None


def read_file(path: Path, *, limit: int, what: str, follow: bool) -> bytes:
    """The content of a regular file. Never waits, and takes no more memory than `limit` allows.

    Args:
        path: of the file.
        limit: bytes that it may have at most: checked before reading, and again while, since a file may grow, and
            files of the system (/proc) do not say how long they are.
        what: it is, and its name, for messages: "suite file mine.toml".
        follow: whether `path` may be a symbolic link: yes for what the user names or collected, no inside a directory
            that may have come from a stranger, whose links could lead to any file of the user's.

    Raises:
        UserError: see `open_file`; in one line that begins with `what`, or with "no ".
    """
    with open_file(path, what=what, follow=follow, limit=limit) as file:
        content = bytearray()
        try:
            while part := file.read(min(_CHUNK, limit + 1 - len(content))):
                content += part
                if len(content) > limit:
                    raise _too_large(what, limit, "more")
        except OSError as error:
            raise _unreadable(what, error) from None
    return bytes(content)


def _check_kind(found: os.stat_result, what: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise UserError(f"{what} is {kind}, not a regular file")


def _too_large(what: str, limit: int, size: str) -> UserError:
    return UserError(f"{what} is too large: it has {size}; at most {limit:,} bytes are read")


def _unreadable(what: str, error: OSError) -> UserError:
    return UserError(f"{what} cannot be read: {error.strerror or error}")
