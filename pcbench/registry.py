"""One small registry for everything that has a name: models, suites, data sets, attacks, figures."""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Generic, TypeVar

from pcbench.errors import UserError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Named entries, filled when they are first asked for.

    Args:
        kind: what an entry is, for messages ("model", "suite").
        package: a package whose modules register entries when imported; imported on the first look-up, so that
            adding an entry means adding one module.
        entry_points: an entry-point group through which other installed packages add entries: each entry point is a
            callable that takes this registry and registers what it has.

    >>> colours = Registry[int]("colour")
    >>> colours.register("red", 1)
    >>> colours["red"], "blue" in colours, colours.names()
    (1, False, ['red'])
    """

    def __init__(self, kind: str, *, package: str | None = None, entry_points: str | None = None) -> None:
        self.kind = kind
        self._package = package
        self._group = entry_points
        self._entries: dict[str, T] = {}
        self._filled = package is None and entry_points is None

    def register(self, name: str, entry: T) -> None:
        """Add an entry. Raises ValueError when the name is taken: silently replacing a model would be a lie."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry

    def _fill(self) -> None:
        if self._filled:
            return
        self._filled = True  # first, because the modules below import what uses this registry
        if self._package is not None:
            package = import_module(self._package)
            for module in iter_modules(package.__path__, prefix=f"{self._package}."):
                import_module(module.name)
        if self._group is not None:
            for point in entry_points(group=self._group):
                add: Callable[[Registry[T]], None] = point.load()
                add(self)

    def names(self) -> list[str]:
        """All names, sorted."""
        self._fill()
        return sorted(self._entries)

    def __contains__(self, name: object) -> bool:
        self._fill()
        return name in self._entries

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter([(name, self._entries[name]) for name in self.names()])

    def __getitem__(self, name: str) -> T:
        """The entry. Raises UserError with the closest known names."""
        self._fill()
        try:
            return self._entries[name]
        except KeyError:
            raise UserError(f"no {self.kind} {name!r}; {did_you_mean(name, self._entries)}") from None
