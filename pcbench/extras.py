"""Packages that an extra of the installation brings: imported when they are needed, missed in one line."""

from importlib import import_module
from typing import Any

from pcbench.errors import UserError


def require(module: str, extra: str) -> Any:
    """The module of a package that `pip install 'pcbench[EXTRA]'` installs.

    Args:
        module: name to import, e.g. "foolbox.attacks".
        extra: the extra that has it, see `pcbench explain extras`.

    Raises:
        UserError: the package is not installed; the line names the extra.

    >>> require("json", "none").loads("1")
    1
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # it is installed, and lacks something of its own: that is another fault
        package = module.partition(".")[0]
        raise UserError(f"this needs the package {package}: pip install 'pcbench[{extra}]'") from None
