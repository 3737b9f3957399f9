"""TOML files from outside, read with one clear line for whatever is wrong with them."""

import tomllib
from pathlib import Path
from typing import Any

from pcbench.errors import UserError


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: of the file.
        what: it is, and its name, for messages: "suite file mine.toml".

    Raises:
        UserError: the file is missing, cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {what}") from None
    except OSError as error:
        raise UserError(f"{what} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # among them wrong UTF-8, and numbers of thousands of digits
        raise UserError(f"{what} is not valid TOML: {error}") from None
