"""TOML files from outside, read with one clear line for whatever is wrong with them."""

import re
import tomllib
from pathlib import Path
from typing import Any

from pcbench.errors import UserError
from pcbench.files import read_file

_LONGEST = 1 << 20  # bytes; the longest that anybody writes has a thousandth
# A key of very many parts: the time that it takes grows with the square of their number.
_DEEP = re.compile(r"""(?<![A-Za-z0-9_-])(?:(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){50}""")


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: of the file.
        what: it is, and its name, for messages: "suite file mine.toml".

    Raises:
        UserError: the file is missing, cannot be read, is not a regular file, or is not TOML.
    """
    content = read_file(path, limit=_LONGEST, what=what, follow=True)
    try:
        text = content.decode()
        if _DEEP.search(text):
            raise ValueError("it has a key of more than 50 parts")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # among them wrong UTF-8, and numbers of thousands of digits
        raise UserError(f"{what} is not valid TOML: {error}") from None
