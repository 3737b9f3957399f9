"""Optional packages: imported when they are needed, missed in one line that says what to install."""

from importlib import import_module
from typing import Any

from pcbench.errors import MissingPackageError


def require(module: str, extra: str | None, what: str = "this", package: str | None = None) -> Any:
    """The module of an optional package.

    Args:
        module: name to import, e.g. "foolbox.attacks".
        extra: the extra of pcbench that installs it, see `pcbench explain extras`; None where the package is installed
            by itself.
        what: needs it: the first words of the line.
        package: as pip calls it, where that is not the first part of the module's name.

    Raises:
        MissingPackageError: it is not installed, or lacks a package that it needs itself.

    >>> require("json", None).loads("1")
    1
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        name = package or module.partition(".")[0]
        known = error.name is None or error.name.partition(".")[0] == module.partition(".")[0]
        missing = name if known else f"{name} together with {error.name}"
        how = f"pip install {name}" if extra is None else f"pip install 'pcbench[{extra}]'"
        raise MissingPackageError(f"{what} needs {missing}, which is not installed: {how}") from None
