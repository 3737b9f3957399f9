"""Which package imports which: read off the import statements, those inside functions included."""

import ast
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Edges = set[tuple[str, str]]


def edges(package: str) -> Edges:
    """(user, used) for the direct children of a package; its own __init__ is left out, as everything's door."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    found: Edges = set()
    for file in sorted(root.rglob("*.py")):
        place = file.relative_to(root)
        user = place.parts[0].removesuffix(".py")
        if user == "__init__":
            continue
        for name in _imported(ast.parse(file.read_text(encoding="utf-8"))):
            parts = name.split(".")
            used = parts[1] if parts[0] == package and len(parts) > 1 else user
            if used != user and ((root / used).is_dir() or (root / f"{used}.py").is_file()):
                found.add((user, used))
    return found


def _imported(tree: ast.AST) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layers(found: Edges) -> list[list[frozenset[str]]]:
    """Rows of groups, users above what they use; a group of more than one package is a cycle."""
    names = {name for edge in found for name in edge}
    reach = {name: _reachable(name, found) for name in names}
    groups = {frozenset({name} | {other for other in reach[name] if name in reach[other]}) for name in names}
    height: dict[frozenset[str], int] = {}

    def rise(group: frozenset[str]) -> int:
        if group not in height:
            below = {used for user, used in found if user in group} - group
            height[group] = max((1 + rise(other) for other in groups if other & below), default=0)
        return height[group]

    top = max(map(rise, groups), default=0)
    return [sorted((g for g in groups if height[g] == level), key=sorted) for level in range(top, -1, -1)]


def _reachable(name: T, found: Iterable[tuple[T, T]]) -> set[T]:
    seen: set[T] = set()
    waiting = [name]
    while waiting:
        here = waiting.pop()
        new = {used for user, used in found if user == here} - seen
        seen |= new
        waiting += new
    return seen


def reduced(found: set[tuple[T, T]]) -> set[tuple[T, T]]:
    """The edges of a graph without cycles that do not follow from others."""
    return {(a, b) for a, b in found if b not in _reachable(a, found - {(a, b)})}
