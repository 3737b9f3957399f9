"""Files that torch wrote by pickling: others' weights, and states of trainings. Read without running what they hold."""

import mmap
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from pcbench.errors import UserError
from pcbench.files import open_file


def read_pickled(path: Path) -> Any:
    """The content of a file of torch: tensors, on the CPU, and plain containers, by torch's restricted unpickler.

    Raises:
        UserError: the file is missing, damaged, or holds anything else.
    """
    file = open_file(path, what=f"file of weights {path}", follow=True)
    try:
        # mapped, so that no length that a damaged file claims makes Python reserve memory for it
        with file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return torch.load(content, map_location="cpu", weights_only=True)  # type: ignore[arg-type]  # any file-like
    except UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))  # torch's own words advise to load it without restriction
        what = f" ({named[1]})" if named else ""
        raise UserError(f"{path.name} is refused, because it is damaged or holds more than tensors{what}") from None
    except Exception as error:  # torch raises nearly anything on damaged files
        raise UserError(f"{path.name} is damaged, or not a file of torch ({type(error).__name__})") from None
