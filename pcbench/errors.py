"""The two ways in which pcbench says no, and the one in which it says what it chose."""

import difflib
from collections.abc import Iterable

_LONGEST = 1_500  # characters of a message


def one_line(message: str) -> str:
    r"""A message as one line that can be printed, whatever bytes of a file are quoted in it.

    >>> one_line("no key 'a\n\x1b[2J'")
    "no key 'a [2J'"
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


class _OneLine(Exception):  # noqa: N818 - its subclasses are the errors
    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UserError(_OneLine):
    """Bad input: one line that says what is wrong and what would be right. The command line exits with 2."""


class MissingPackageError(UserError):
    """Bad input, here: it needs an optional package that is not installed."""


class RunError(_OneLine):
    """A run failed on its way; what was finished is kept. The command line exits with 1."""


class Interrupted(KeyboardInterrupt):
    """A signal ended a run in order; the message says how to go on.

    Args:
        message: one line.
        signal: its number: 2 for Ctrl-C, 15 for SIGTERM, 1 for SIGHUP.
    """

    def __init__(self, message: str, signal: int = 2) -> None:
        super().__init__(message)
        self.signal = signal


class Notice(UserWarning):
    """Something was chosen for the user (images, weights, a device): from Python, warnings of this class say it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a "no such name" message: the closest known names, or all of them when none is close.

    >>> did_you_mean("pvg16", ["pvgg16", "resnet18"])
    'did you mean pvgg16?'
    >>> did_you_mean("x", ["pvgg16", "resnet18"])
    'known: pvgg16, resnet18'
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not names:
        return "there is none"
    shown = names if len(names) <= 24 else [*names[:24], "..."]
    return f"known: {', '.join(shown)}"
