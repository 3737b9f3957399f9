"""Which part of the package imports which: one way, downwards. Drawn from the source, imports in functions included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pcbench

ROOT = Path(pcbench.__file__).parent
Edges = dict[tuple[str, str], list[str]]

# Who may be imported by whom, from the top down: a part imports parts of the lines below its own, never of those above.
# What stands on one line is independent of each other; a part that is not here has only the cycles to mind.
LAYERS = (
    {"cli"},
    {"training", "harness", "site", "report", "explain"},
    {"figures"},
    {"metrics"},
    {"analysis"},
    {"results"},
    {"suites", "data"},
    {"perturbations"},
    {"models"},
    {"config", "registry", "sourcecode", "toml", "tables", "extras"},
    {"keys", "files", "intervals", "numerics", "randomness"},
    {"errors"},
)


def modules_of(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, full name) of whatever a module of that package imports, wherever it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def edges(root: Path) -> Edges:
    """(part, part that it imports) -> the lines that do it. A part is a package or a module directly in the root.

    The root's own __init__ is what users import; no part is made of it.
    """
    parts = {path.stem for path in root.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    found: Edges = {}
    for file in sorted(root.rglob("*.py")):
        place = file.relative_to(root).with_suffix("").parts
        if place == ("__init__",):
            continue
        for line, name in modules_of(ast.parse(file.read_bytes()), (root.name, *place[:-1])):
            words = name.split(".")
            if words[0] == root.name and len(words) > 1 and words[1] in parts - {place[0]}:
                where = found.setdefault((place[0], words[1]), [])
                where.append(f"{file.relative_to(root).as_posix()}:{line}")
    return {pair: list(dict.fromkeys(lines)) for pair, lines in found.items()}


def cycles(found: Edges) -> list[str]:
    """Each import that closes a circle, with the circle."""
    below: dict[str, set[str]] = {}
    for one, other in found:
        below.setdefault(one, set()).add(other)

    def way(start: str, end: str) -> list[str]:
        ways, seen = [[start]], {start}
        for path in ways:
            if path[-1] == end:
                return path
            for name in sorted(below.get(path[-1], set()) - seen):
                seen.add(name)
                ways.append([*path, name])
        return []

    return [
        f"{' -> '.join([one, *back])} ({', '.join(found[one, other])})"
        for one, other in sorted(found)
        if (back := way(other, one))
    ]


def upwards(found: Edges) -> list[str]:
    """Each import of a part that stands above its own in `LAYERS`, or beside it."""
    height = {name: index for index, names in enumerate(LAYERS) for name in names}
    return [
        f"{one} -> {other} ({', '.join(lines)})"
        for (one, other), lines in sorted(found.items())
        if one in height and other in height and height[one] >= height[other]
    ]


def test_no_part_imports_itself_by_way_of_others() -> None:
    found = edges(ROOT)
    assert ("cli", "harness") in found, "the graph is empty"
    assert cycles(found) == []


def test_imports_go_downwards() -> None:
    assert upwards(edges(ROOT)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "from pcbench.suites import registry",
        "import pcbench.suites.registry",
        "from pcbench import suites",
        "from ..suites.registry import Suite",
        "def late():\n    from pcbench.suites.registry import Suite",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pcbench.suites.registry import Suite",
    ],
)
def test_an_added_cycle_is_found_however_it_is_written(tmp_path: Path, statement: str) -> None:
    root = tmp_path / "pcbench"
    for name in ("suites/__init__.py", "perturbations/__init__.py", "keys.py", "__init__.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / "suites" / "registry.py").write_text("from pcbench.perturbations.base import KINDS\nimport numpy\n")
    (root / "perturbations" / "base.py").write_text("from pcbench.keys import Condition\n")
    assert cycles(edges(root)) == []
    (root / "perturbations" / "base.py").write_text(statement + "\n")
    one, other = cycles(edges(root))
    assert one.startswith("perturbations -> suites -> perturbations (perturbations/base.py:")
    assert other.startswith("suites -> perturbations -> suites (suites/registry.py:1")
    assert upwards(edges(root))


def test_only_the_command_line_speaks_to_a_terminal() -> None:
    speaking = [
        f"{file.relative_to(ROOT).as_posix()}:{line}"
        for file in sorted(ROOT.rglob("*.py"))
        if file.relative_to(ROOT).parts[0] != "cli"
        for line, name in modules_of(ast.parse(file.read_bytes()), ())
        if name.split(".")[0] in ("rich", "click")
    ]
    assert speaking == []
