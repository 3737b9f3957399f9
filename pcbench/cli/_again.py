"""The line that finishes a request. Made by us from what was asked, never taken from a file as it stands."""

import shlex
from dataclasses import replace

from pcbench.config import RunConfig
from pcbench.errors import UserError
from pcbench.results.study import Placed


def again(placed: Placed) -> str:
    """What finishes a request of a directory, as words for people; the command in it works when pasted.

    Records name places by their last part, so that they say nothing of a machine: where the request named such a place,
    the words say what has to be put in.
    """
    try:
        config = RunConfig.from_recorded(placed.request.asked)
    except UserError as error:
        return f"its request cannot be repeated as it stands: {error}"
    words = replace(config, output=placed.directory).words()
    missing = [
        text
        for name, option in RunConfig.options().items()
        if option.path and name != "output"
        for text in _texts(getattr(config, name))
        if _is_file(text)
    ]
    hint = f" (put the folder of {', '.join(missing)} before the name)" if missing else ""
    return f"finish it with{hint}: {shlex.join(words)}"


def _texts(value: object) -> list[str]:
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, tuple) else [str(value)]


def _is_file(text: str) -> bool:
    from pathlib import Path

    return "." in text and not Path(text).exists()
