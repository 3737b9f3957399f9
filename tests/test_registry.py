"""Names: of this package's modules, of plug-ins that load and of plug-ins that do not."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pcbench import registry
from pcbench.errors import UserError
from pcbench.registry import Registry, instance_of, thing_at


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is not on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return tmp_path


def plug_ins(monkeypatch: pytest.MonkeyPatch, **places: str) -> Registry[int]:
    points = [EntryPoint(name, place, "numbers") for name, place in places.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    return Registry[int]("number", entry_points="numbers", adopt=instance_of(int))


def test_a_plug_in_that_does_not_load_is_one_line_and_the_others_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "plug_in_one.py").write_text("one = 1\ntext = 'no number'\n")
    (folder / "plug_in_broken.py").write_text("raise RuntimeError('two\\nlines')\n")
    (folder / "plug_in_needs.py").write_text("import a_package_that_is_not_there\n")
    numbers = plug_ins(
        monkeypatch,
        one="plug_in_one:one",
        broken="plug_in_broken:x",
        needs="plug_in_needs:x",
        text="plug_in_one:text",
        absent="no_such_module:x",
        other="plug_in_one:onne",
    )
    for _ in range(2):  # the second look-up knows as much as the first
        assert dict(numbers) == {"one": 1}
        assert numbers["one"] == 1
        assert len(numbers.broken) == 5
        assert not any("\n" in line for line in numbers.broken)
    said = " | ".join(numbers.broken)
    assert (
        "number 'broken' does not load: number plug_in_broken:x: importing plug_in_broken fails: RuntimeError" in said
    )
    assert "needs 'a_package_that_is_not_there', which is not installed" in said
    assert "text is of type str; it must be a builtins.int" in said
    assert "there is no module 'no_such_module'" in said
    assert "module plug_in_one has no 'onne'; did you mean one?" in said
    with pytest.raises(UserError, match="'broken' does not load"):
        numbers["broken"]


def test_a_plug_in_is_imported_when_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "plug_in_lazy.py").write_text("two = 2\n")
    numbers = plug_ins(monkeypatch, two="plug_in_lazy:two")
    assert numbers.names() == ["two"]
    assert "two" in numbers
    assert "plug_in_lazy" not in sys.modules
    assert numbers["two"] == 2


def test_a_taken_name_stays_what_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "plug_in_taken.py").write_text("three = 3\n")
    numbers = plug_ins(monkeypatch, three="plug_in_taken:three")
    numbers.register("three", 33)
    assert numbers["three"] == 33
    assert numbers.broken == ["number 'three' does not load: the name is taken"]


def test_places_are_names_too_and_the_current_folder_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "plug_in_here.py").write_text("four = 4\n")
    numbers = plug_ins(monkeypatch)
    assert numbers["plug_in_here:four"] == 4
    assert numbers.names() == []
    with pytest.raises(UserError, match="no number 'four'; there is none"):
        numbers["four"]
    with pytest.raises(UserError, match="there is no module 'plug_in_nowhere' in the current folder"):
        numbers["plug_in_nowhere:four"]


def test_a_module_that_ends_the_process_does_not(folder: Path) -> None:
    (folder / "plug_in_exits.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(UserError, match="importing plug_in_exits fails: SystemExit: 3"):
        thing_at("plug_in_exits:x", "model")
