"""The command in a process of its own that starts at once: forked from a server that has imported everything."""

import os
import signal
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["foolbox", "pandas", "pyarrow.parquet", "pcbench.cli.run", "pcbench.harness.run"])


def start(words: list[str], said: Path) -> BaseProcess:
    """`pcbench WORDS`, with what it prints in a file."""
    process = CONTEXT.Process(target=_command, args=(words, str(said)))
    process.start()
    return process


def _command(words: list[str], said: str) -> None:
    for stream in (1, 2):
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells take from what they run in the background
    import torch

    torch.set_num_threads(1)
    from pcbench.cli.app import main

    main(words)
