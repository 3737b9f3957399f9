"""One small registry for everything that has a name: models, suites, data sets, attacks, figures."""

import re
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import Generic, TypeVar

from pcbench.errors import UserError, did_you_mean

T = TypeVar("T")
_TRUSTED: ContextVar[Collection[str] | None] = ContextVar("trusted", default=None)
_PLACE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Registry(Generic[T]):
    """Named entries, filled when they are first asked for: from this package's modules, and from plug-ins.

    A plug-in's entry is named in either of two ways, and is the same thing both times: an installed package has an
    entry point NAME = "package.module:thing", or "package.module:thing" itself is the name. It is imported when it is
    looked up; where that fails, look-ups of that name alone raise, and `broken` says why in one line.

    Args:
        kind: what an entry is, for messages ("model", "suite").
        package: a package whose modules register entries when imported; imported on the first look-up, so that
            adding an entry means adding one module.
        entry_points: the group of entry points of installed packages that are entries.
        adopt: adopt(name, thing) -> the entry, of what lies at a plug-in's place. Raises UserError when it is none.

    >>> colours = Registry[int]("colour")
    >>> colours.register("red", 1)
    >>> colours["red"], "blue" in colours, colours.names()
    (1, False, ['red'])
    """

    def __init__(
        self,
        kind: str,
        *,
        package: str | None = None,
        entry_points: str | None = None,
        adopt: Callable[[str, object], T] | None = None,
    ) -> None:
        self.kind = kind
        self._package = package
        self._group = entry_points
        self._adopt = adopt
        self._entries: dict[str, T] = {}
        self._points: dict[str, EntryPoint] = {}  # not imported yet
        self._places: dict[str, T] = {}
        self._broken: dict[str, str] = {}
        self._filled = False
        self._failure: Exception | None = None

    def register(self, name: str, entry: T) -> None:
        """Add an entry. Raises ValueError when the name is taken: silently replacing a model would be a lie."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry

    def names(self) -> list[str]:
        """All names, sorted: those of plug-ins too, but for those that are known not to load."""
        self._fill()
        return sorted({*self._entries, *self._points})

    @property
    def broken(self) -> list[str]:
        """One line for each plug-in that does not load. Imports all of them."""
        for _ in self:
            pass
        return [self._broken[name] for name in sorted(self._broken)]

    def __contains__(self, name: object) -> bool:
        """Whether there is such an entry, or would be if its plug-in loaded."""
        self._fill()
        known = name in self._entries or name in self._points or name in self._broken
        return known or (isinstance(name, str) and self._adopt is not None and is_place(name))

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Names and entries, sorted; without plug-ins that do not load."""
        for name in self.names():
            try:
                entry = self[name]
            except UserError:
                continue
            yield name, entry

    def __getitem__(self, name: str) -> T:
        """The entry. Raises UserError: there is none, with the closest known names; or its plug-in does not load."""
        self._fill()
        if name in self._points:
            self._import(self._points.pop(name))
        if name in self._entries:
            return self._entries[name]
        if name in self._broken:
            raise UserError(self._broken[name])
        if self._adopt is not None and is_place(name):
            _check_trust(name, self.kind)
            if name not in self._places:
                self._places[name] = self._adopt(name, thing_at(name, self.kind))
            return self._places[name]
        raise UserError(f"no {self.kind} {name!r}; {did_you_mean(name, self.names())}")

    def _import(self, point: EntryPoint) -> None:
        assert self._adopt is not None
        try:
            self._entries[point.name] = self._adopt(point.name, thing_at(point.value, self.kind))
        except UserError as error:
            self._broken[point.name] = f"{self.kind} {point.name!r}{_of(point)} does not load: {error}"

    def _fill(self) -> None:
        if self._failure is not None:  # a module of ours; its entries must not go missing at the second look-up
            raise self._failure
        if self._filled:
            return
        self._filled = True  # first, because the modules below import what uses this registry
        try:
            if self._package is not None:
                package = import_module(self._package)
                for module in iter_modules(package.__path__, prefix=f"{self._package}."):
                    import_module(module.name)
        except Exception as error:
            self._failure = error
            raise
        if self._group is None:
            return
        for point in sorted(entry_points(group=self._group), key=lambda point: (point.name, point.value)):
            if point.name not in self._entries and point.name not in self._points:
                self._points[point.name] = point
            elif point.name not in self._points or self._points[point.name].value != point.value:
                line = f"{self.kind} {point.name!r}{_of(point)} does not load: the name is taken"
                self._broken[f"{point.name} {point.value}"] = line


@contextmanager
def code_only_of(modules: Collection[str]) -> Iterator[None]:
    """Within it, "package.module:thing" is looked up in these modules alone: the names come from somebody's file.

    What is registered, by this package or by plug-ins that were installed, is looked up as ever.
    """
    token = _TRUSTED.set(modules)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def _check_trust(place: str, kind: str) -> None:
    module = place.partition(":")[0]
    trusted = _TRUSTED.get()
    if trusted is None or any(module == each or module.startswith(f"{each}.") for each in trusted):
        return
    raise UserError(f"{kind} {place} is code that a file names, which is not run; if you trust it: --trust {module}")


def instance_of(kind: type[T]) -> Callable[[str, object], T]:
    """An `adopt` for plug-ins that are literals of a class of ours.

    >>> instance_of(int)("one", 1)
    1
    """

    def adopt(name: str, thing: object) -> T:
        if not isinstance(thing, kind):
            raise UserError(f"{name} is of type {type(thing).__name__}; it must be a {kind.__module__}.{kind.__name__}")
        return thing

    return adopt


def is_place(name: str) -> bool:
    """Whether a name has the form "package.module:thing".

    >>> is_place("mymodel:net"), is_place("folder/mymodel.py:net"), is_place("pvgg16")
    (True, False, False)
    """
    return _PLACE.fullmatch(name) is not None


def thing_at(place: str, kind: str) -> object:
    """What lies at "package.module:thing". Modules of the current folder are found, before those of packages.

    Args:
        place: see above.
        kind: what it shall be, for messages.

    Raises:
        UserError: there is no such module or thing, or importing the module fails, for whatever reason.
    """
    module, _, name = place.partition(":")
    folder, top = Path.cwd(), module.partition(".")[0]
    if str(folder) not in sys.path and ((folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()):
        sys.path.insert(0, str(folder))  # it stays: the module may import others later, and so may other processes
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            where = "in the current folder or among the installed packages"
            raise UserError(f"{kind} {place}: there is no module {error.name!r} {where}") from None
        raise UserError(f"{kind} {place}: its module needs {error.name!r}, which is not installed") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{kind} {place}: importing {module} fails: {type(error).__name__}: {error}") from error
    try:
        return getattr(found, name)
    except AttributeError:
        known = [known for known in dir(found) if not known.startswith("_")]
        raise UserError(f"{kind} {place}: module {module} has no {name!r}; {did_you_mean(name, known)}") from None


def _of(point: EntryPoint) -> str:
    return "" if point.dist is None else f" of the package {point.dist.name}"
