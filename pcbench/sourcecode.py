"""A digest of the source of a network that is not ours: editing the file makes it another network."""

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import nn

_INSTALLED = ("site-packages", "dist-packages")


def source_digest(things: Iterable[object]) -> str:
    """SHA-256 over the source files of some functions and classes, hexadecimal.

    A file's imports belong to it where they lie in the same folder, or for an installed package in that package: the
    user's own code, whichever other modules happen to be loaded. Only the text decides, not where the files lie.

    Args:
        things: functions and classes. What has no file (it was typed into a notebook) counts by its own source.
    """
    contents: dict[str, bytes] = {}
    for thing in things:
        module = sys.modules.get(getattr(thing, "__module__", ""))
        path = getattr(module, "__file__", None)
        if module is not None and path is not None:
            top = module.__name__.partition(".")[0]
            root = Path(path).parents[module.__name__.count(".") + (Path(path).name == "__init__.py")]
            for file in _with_imports(Path(path), root, top):
                contents[file.relative_to(root).as_posix()] = file.read_bytes()
        else:
            contents[getattr(thing, "__qualname__", repr(thing))] = _typed(thing)
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(f"{name}\0{len(contents[name])}\0".encode() + contents[name])
    return digest.hexdigest()


def classes_of(network: nn.Module) -> list[type]:
    """The classes of a network and its modules, but for torch's own."""
    found = {type(module) for module in network.modules()}
    return sorted((kind for kind in found if kind.__module__.partition(".")[0] != "torch"), key=repr)


def _typed(thing: object) -> bytes:
    try:
        return inspect.getsource(thing).encode()  # type: ignore[arg-type]  # anything else raises TypeError
    except (OSError, TypeError):
        return repr(getattr(thing, "__qualname__", type(thing).__qualname__)).encode()


def _with_imports(path: Path, root: Path, top: str) -> set[Path]:
    """A file and those that it imports, and they, as far as they are the user's own."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for name in _imported(file, root):
            if not set(root.parts) & set(_INSTALLED) or name.partition(".")[0] == top:
                waiting += _files(name, root)
    return found


def _imported(file: Path, root: Path) -> Iterator[str]:
    """Full names of what a file imports: modules, and what may be modules ("from package import name")."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # an extension module
        return
    package = file.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            before = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*before, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _files(name: str, root: Path) -> Iterator[Path]:
    """The files of a module and of the packages that it is in, where they lie below a folder."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:count])
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file
