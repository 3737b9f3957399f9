"""What a run did and what befell it, line by line, in run.log of its directory, and for whoever else listens."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pcbench.errors import RunError, UserError, did_you_mean, one_line
from pcbench.harness.evaluate import Finished, Glance
from pcbench.harness.progress import Progress

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LOG_FILE = "run.log"
_LOGGER = logging.getLogger("pcbench")


def level_of(name: str) -> int:
    """The level of a name of `LEVELS`. Raises UserError."""
    if name not in LEVELS:
        raise UserError(f"no log level {name!r}; {did_you_mean(name, LEVELS)}")
    return LEVELS[name]


class _File(logging.FileHandler):
    """A log file that is a convenience: when it cannot be written, the run goes on without it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so
        return None


class _Lines(logging.Formatter):
    converter: Callable[[float | None], time.struct_time] = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


@contextmanager
def handled(handler: logging.Handler, level: int) -> Iterator[None]:
    """Within, log records from a level on go to a handler as well; afterwards logging is as it was."""
    handler.setLevel(level)
    before = _LOGGER.level
    # the logger lets through what the most talkative of its handlers wants
    _LOGGER.setLevel(min(level, before or level))
    _LOGGER.addHandler(handler)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.setLevel(before)
        with contextlib.suppress(OSError):  # the run itself says that the disk is full
            handler.close()


@contextmanager
def log_to_file(directory: Path) -> Iterator[None]:
    """Within, log records are appended to run.log: those of level info, or from debug on where that is asked for."""
    try:
        handler = _File(directory / LOG_FILE, encoding="utf-8")
    except OSError:
        yield
        return
    handler.setFormatter(_Lines("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    with handled(handler, min(logging.INFO, _LOGGER.level or logging.INFO)):
        yield


class Log(Progress):
    """Progress as log records: cells at level info, batches at level debug."""

    def start(self, cells: int, done: int, images: int) -> None:
        """The sweep begins."""
        _LOGGER.info("sweep of %d cells of %d images each, %d of them finished before", cells, images, done)

    def batch(self, glance: Glance, images: int) -> None:
        """Some images of a cell are done."""
        _LOGGER.debug("%s: %d images done", _name(glance), glance.images)

    def cell(self, finished: Finished) -> None:
        """A cell is finished and kept."""
        parts = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in finished.seconds.items())
        _LOGGER.info("finished %s (%s)", _name(finished.glance), parts)

    def ended(self, error: BaseException | None = None) -> None:
        """The sweep is over; `error` is what broke it off. At level info, because the command says it itself."""
        if error is None:
            _LOGGER.info("complete")
        elif isinstance(error, UserError | RunError):
            _LOGGER.info("broken off: %s", error)
        else:
            _LOGGER.info("broken off by %s", type(error).__name__)


def _name(glance: Glance) -> str:
    return f"{glance.label} {glance.condition.label}"
