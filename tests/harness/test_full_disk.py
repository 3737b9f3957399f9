"""Disks that fill up and places that cannot be written: one line, nothing corrupt, and the run goes on later."""

import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from children import CONTEXT
from test_run import contents, sweep

from pcbench.cli.app import main
from pcbench.errors import RunError
from pcbench.results.directory import read_cells
from pcbench.results.disk import write_atomically

FULL = "No space left on device"


def mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`disk("size=64k")`: a small file system of its own; called again, the same one with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def of(options: str) -> Path:
        again = f"remount,{options}" if os.path.ismount(place) else options
        if not mount("-t", "tmpfs", "-o", again, "tmpfs", str(place)):
            pytest.skip("mounting a small file system needs the rights of root")
        return place

    yield of
    if os.path.ismount(place):
        subprocess.run(["umount", str(place)], check=True)


def assert_nothing_corrupt(directory: Path) -> int:
    """What run.json names is whole, and nothing half-written lies about. Returns the number of cells."""
    assert not list(directory.rglob(".part-*"))
    cells = read_cells(directory, lambda line: pytest.fail(line))
    assert [cell.verify() for cell in cells] == [""] * len(cells)
    return len(cells)


def assert_same(directory: Path, reference: Path) -> None:
    assert (directory / "accuracy.csv").read_bytes() == (reference / "accuracy.csv").read_bytes()
    assert contents(directory) == contents(reference)


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_what_is_finished_and_goes_on_with_room(
    disk: Callable[[str], Path], tmp_path: Path, suite: str
) -> None:
    reference = sweep(tmp_path / "reference", suite).directory
    kept = []
    for size in (4, 32, 60):
        place = disk(f"size={size}k") / f"run-{size}"
        with pytest.raises(RunError, match=FULL) as refusal:
            sweep(place, suite)
        assert str(tmp_path) not in str(refusal.value).replace(str(place), "")
        kept.append(assert_nothing_corrupt(place))
        disk("size=64m")
        assert_same(sweep(place, suite).directory, reference)
        subprocess.run(["rm", "-r", str(place)], check=True)
    assert kept[0] == 0
    assert max(kept) > 0


def test_a_full_disk_is_one_line_of_the_command(
    disk: Callable[[str], Path], suite: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--model", "tiny_models:tiny", "--suite", suite, "--data", "samples", "--workers", "0", "--quiet"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--output", str(disk("size=60k") / "run")])
    assert end.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("notice:")] == lines[-1:]
    assert lines[-1].startswith("error: cannot write")
    assert FULL in lines[-1]


def test_no_room_for_temporary_images_is_said_with_what_to_do(
    disk: Callable[[str], Path], tmp_path: Path, suite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk("size=40k")))
    with pytest.raises(RunError, match="set TMPDIR to a larger disk"):
        sweep(tmp_path / "run", suite)
    assert not (tmp_path / "run").exists()


def test_a_read_only_place_is_refused(disk: Callable[[str], Path], suite: str) -> None:
    place = disk("size=64m") / "run"
    sweep(place, suite, limit=5)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    victim = next((place / "records").iterdir())
    victim.unlink()
    disk("ro")
    for output in (place, place.with_name("another")):
        with pytest.raises(RunError, match="Read-only file system"):
            sweep(output, suite, limit=5)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == {
        path: content for path, content in before.items() if path != victim
    }


def write_with_a_limit(path: Path, size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        write_atomically(path, bytes(size))
    except RunError as error:
        os._exit(3 if "cannot write file" in str(error) and "\n" not in str(error) else 4)
    os._exit(0)


@pytest.mark.parametrize(("size", "code"), [(900, 0), (5000, 3)])
def test_a_file_that_breaks_off_leaves_the_old_one(tmp_path: Path, size: int, code: int) -> None:
    """The same without the rights of root: the system stops a process that writes more than it may."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    process = CONTEXT.Process(target=write_with_a_limit, args=(path, size))
    process.start()
    process.join()
    assert process.exitcode == code
    assert path.read_bytes() == (bytes(size) if code == 0 else b"old")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
