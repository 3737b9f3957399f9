"""Reading files from outside: regular files only, without waiting, up to a limit."""

import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from pcbench import files
from pcbench.errors import UserError
from pcbench.files import open_file, read_file

pytestmark = pytest.mark.timeout(20)  # what this is about waits for ever


def test_a_regular_file_is_read_whole_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content in (b"", b"abc", os.urandom(3 << 20)):
        path.write_bytes(content)
        assert read_file(path, limit=len(content), what="file x", follow=False) == content
    with pytest.raises(UserError, match=r"^file x is too large: it has 3,145,728 bytes; at most 3,145,727 bytes"):
        read_file(path, limit=(3 << 20) - 1, what="file x", follow=False)


def test_no_memory_is_taken_for_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 36)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="too large"):
            read_file(tmp_path / "sparse", limit=1 << 30, what="file", follow=True)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_grows_while_it_is_read_is_held_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"0123456789")

    def grown(*args: object, **kwargs: object) -> object:
        file = open_file(path, what="x", follow=True)
        path.write_bytes(b"0" * 11)
        return file

    monkeypatch.setattr(files, "open_file", grown)
    with pytest.raises(UserError, match="it has more; at most 10 bytes"):
        read_file(path, limit=10, what="x", follow=True)


def special(kind: str, folder: Path) -> Path:
    path = folder / "x"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a device":
        return Path("/dev/zero")
    else:
        socket.socket(socket.AF_UNIX).bind(str(path))
    return path


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a folder", "a socket"])
def test_what_is_no_regular_file_is_refused_by_its_kind(kind: str, linked: bool, tmp_path: Path) -> None:
    path = special(kind, tmp_path)
    if linked:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    with pytest.raises(UserError, match=rf"^image x is {kind}, not a regular file$"):
        read_file(path, limit=100, what="image x", follow=True)


def test_a_file_that_is_exchanged_for_a_pipe_before_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1")
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda *args, **kwargs: regular)
    descriptor = os.open(tmp_path, os.O_RDONLY)  # the next free one
    os.close(descriptor)
    with pytest.raises(UserError, match="is a named pipe"):
        read_file(path, limit=100, what="x", follow=True)
    after = os.open(tmp_path, os.O_RDONLY)
    os.close(after)
    assert after == descriptor


def test_links_are_followed_only_where_that_was_agreed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    link = tmp_path / "x"
    link.symlink_to(tmp_path / "secret")
    assert read_file(link, limit=10, what="image x", follow=True) == b"secret"
    with pytest.raises(UserError, match=r"^records x is a symbolic link, not a regular file$"):
        read_file(link, limit=10, what="records x", follow=False)
    regular = (tmp_path / "secret").stat()
    monkeypatch.setattr(Path, "stat", lambda *args, **kwargs: regular)  # a link that was put there after the look
    with pytest.raises(UserError, match=r"^records x is a symbolic link, not a regular file$"):
        read_file(link, limit=10, what="records x", follow=False)


def test_what_cannot_be_opened_says_why_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"")
    for path, words in {
        tmp_path / "missing": "^no image x$",
        tmp_path / "loop": "^image x cannot be read: .*symbolic links",
        tmp_path / "file" / "below": "^image x cannot be read: ",
        tmp_path / ("x" * 300): "^image x cannot be read: ",
        Path("null\0character"): "^image x cannot be read: ",
    }.items():
        with pytest.raises(UserError, match=words):
            read_file(path, limit=10, what="image x", follow=True)
