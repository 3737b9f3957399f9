"""Files that are read again and again."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder, in memory where there is one: a disk takes milliseconds for each of many thousand files."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def reading(folder: Path) -> Callable[[str, Callable[[Path], object]], Callable[[bytes], object]]:
    """`reading(name, read)`: a function of bytes, which writes them to a file of that name and reads it."""

    def of(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        path = folder / name

        def once(content: bytes) -> object:
            path.write_bytes(content)
            return read(path)

        return once

    return of
