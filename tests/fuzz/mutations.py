"""Damaged files by the thousand, and what must not happen while one is read."""

import io
import random
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pcbench.errors import RunError, UserError

COUNT = 10_000
SECONDS = 20.0  # of processor time for one input: a hundred times what the slowest needs, and it knows no quiet hour
ROOM = 2**30  # bytes that reading one input may take

_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_NUMBERS = (b"0", b"-1", b"1000000000000", b"1e308", b"1e999", b"nan", b"-inf", b"0x7fffffff", b"9" * 5000, b"2.5")
_TEXTS = (b"\0", b"\n", b"\r\n", b"\x1b[2J", b"\xff\xfe", "\u202e\U0001f600é".encode(), b'"', b"'", b"{", b"]", b"true",
          b"null", b"[" * 3000, b"a" * 9000, b"../../x", b"/etc/passwd", b"\\ud800")  # fmt: skip
PAYLOADS = (b'__import__("os").system("true")', b"cos\nsystem\n(S'true'\ntR.", b"!!python/object/apply:os.system [1]")
_WATCHED = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "socket.connect",
            "pickle.find_class", "shutil.rmtree", "ctypes.dlopen")  # fmt: skip


def mutants(seeds: Sequence[bytes], count: int = COUNT, seed: int = 0) -> Iterator[bytes]:
    """Inputs that are nearly, or not at all, the valid files `seeds`; always the same ones."""
    generator = random.Random(seed)
    for _ in range(count):
        content = bytearray(generator.choice(seeds))
        for _ in range(generator.choice((1, 1, 1, 2, 3, 6))):
            generator.choice(_CHANGES)(content, generator, seeds)
        yield bytes(content)


def _place(content: bytearray, generator: random.Random) -> int:
    # headers are where the damage is worst, so every other change is near the beginning
    return generator.randrange(min(len(content), generator.choice((64, len(content)))) + 1) if content else 0


def _flip(content: bytearray, generator: random.Random, seeds: Sequence[bytes]) -> None:
    if content:
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)


def _truncate(content: bytearray, generator: random.Random, seeds: Sequence[bytes]) -> None:
    del content[_place(content, generator) :]


def _cut(content: bytearray, generator: random.Random, seeds: Sequence[bytes]) -> None:
    start = _place(content, generator)
    del content[start : start + generator.choice((1, 2, 4, 16, 100))]


def _repeat(content: bytearray, generator: random.Random, seeds: Sequence[bytes]) -> None:
    start = _place(content, generator)
    content[start:start] = content[start : start + generator.choice((1, 8, 64))] * generator.choice((1, 2, 20))


def _splice(content: bytearray, generator: random.Random, seeds: Sequence[bytes]) -> None:
    other = generator.choice(seeds)
    start, stop = sorted(generator.randrange(len(other) + 1) for _ in range(2))
    place = _place(content, generator)
    content[place : place + generator.choice((0, stop - start))] = other[start:stop]


def _integer(content: bytearray, generator: random.Random, seeds: Sequence[bytes]) -> None:
    place, size = _place(content, generator), generator.choice((1, 2, 4, 8))
    value = generator.choice(_INTEGERS) % 256**size
    content[place : place + size] = value.to_bytes(size, generator.choice(("little", "big")))


def _number(content: bytearray, generator: random.Random, seeds: Sequence[bytes]) -> None:
    found = list(re.finditer(rb"\d+", bytes(content)))
    if found:
        match = generator.choice(found)
        content[match.start() : match.end()] = generator.choice(_NUMBERS)


def _insert(content: bytearray, generator: random.Random, seeds: Sequence[bytes]) -> None:
    place = _place(content, generator)
    content[place:place] = generator.choice((*_TEXTS, *_NUMBERS, *PAYLOADS))


def _swap_words(content: bytearray, generator: random.Random, seeds: Sequence[bytes]) -> None:
    found = list(re.finditer(rb"[A-Za-z_]{2,}", bytes(content)))
    if len(found) > 1:
        one, other = generator.sample(found, 2)
        content[one.start() : one.end()] = other[0]


_CHANGES = (_flip, _truncate, _cut, _repeat, _splice, _integer, _number, _insert, _swap_words)


class Hang(BaseException):
    """An input took too long. No handler of an Exception may swallow it."""


_seen: list[str] = []
_watching = False


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    if event in _WATCHED or (event == "exec" and not _known(arguments[0])):
        _seen.append(f"{event} {arguments!r}"[:200])


def _known(code: object) -> bool:
    """Whether code may run: torch.fx writes that of a traced network itself, and modules are imported late."""
    if str(getattr(code, "co_filename", "")).startswith("<eval_with_key>"):
        return True
    frame = sys._getframe()
    while frame.f_back is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


sys.addaudithook(_audit)


@contextmanager
def guarded() -> Iterator[None]:
    """Within, little memory is to be had, nothing may be executed, and an endless loop ends."""
    global _watching

    def hang(*_: object) -> None:
        raise Hang

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGPROF, hang)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, limits[1]))
    _watching = True
    try:
        yield
    finally:
        _watching = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGPROF, handler)


def survive(
    read: Callable[[bytes], object], seeds: Sequence[bytes], count: int = COUNT, *, modest: bool = True
) -> Counter[str]:
    """Read mutants of files; each is read, or refused in one line. The seeds themselves must be read.

    Args:
        read: of a file's bytes.
        seeds: valid files.
        count: of mutants.
        modest: refuse what claims too much before asking for memory, not because there is none.

    Returns:
        How many were "read", and how many "refused".
    """
    for valid in seeds:
        read(valid)
    outcome: Counter[str] = Counter()
    with guarded():
        for number, content in enumerate(mutants(seeds, count)):
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                read(content)
            except (UserError, RunError) as error:
                outcome["refused"] += 1
                problem = _wrong_with(str(error), modest)
            except BaseException as error:
                problem = f"{type(error).__name__}: {error}"
                if isinstance(error, KeyboardInterrupt):
                    raise
            else:
                outcome["read"] += 1
                problem = ""
            if _seen:
                problem = f"something was executed: {_seen[0]}"
                _seen.clear()
            if problem:
                pytest.fail(f"input {number}: {problem[:600]}\n{_shown(content)}")
    assert sum(outcome.values()) == count
    assert outcome["refused"] > count // 100, "the mutants do no damage"
    return outcome


def _wrong_with(message: str, modest: bool) -> str:
    if not message.strip():
        return "a message that says nothing"
    if not message.isprintable():
        return f"a message that is no plain line: {message!r}"
    if len(message) > 2_000:
        return f"a message of {len(message)} characters"
    if modest and re.search(r"allocat|MemoryError|malloc|out of memory", message):
        return f"refused only when memory ran out: {message}"
    return ""


def _shown(content: bytes) -> str:
    buffer = io.StringIO()
    print(content[:1500], file=buffer)
    return buffer.getvalue()
