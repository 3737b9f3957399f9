"""Trial files of people who named what they saw, in the form of the model-vs-human toolbox.

A file is a CSV table with the columns subj, session, trial, rt, object_response, category, condition, imagename (in any
order and case): one row for each image that one observer was shown. `rt` is in seconds; an observer who gave no answer
has the response "na", which counts as wrong. Responses and categories are the sixteen of `CATEGORIES`.

Source: Geirhos et al. 2018 (arXiv 1808.08750) and 2021 (arXiv 2106.07411). Files come from outside: sizes are capped,
and what does not fit is refused in one line.
"""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pcbench.errors import UserError, did_you_mean
from pcbench.files import read_file

CATEGORIES = (
    "airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat",
    "chair", "clock", "dog", "elephant", "keyboard", "knife", "oven", "truck",
)  # fmt: skip
COLUMNS = ("subj", "session", "trial", "rt", "object_response", "category", "condition", "imagename")
NO_ANSWER = "na"
CLASSES = 1000

_LARGEST = 32 << 20  # bytes of a file; a published one of 1,280 trials has 124 kB
_MOST_TRIALS = 200_000
_LONGEST = 300  # characters of a field
_SHOWN_TO_ONE = re.compile(r"^\d+_[A-Za-z0-9-]+_s\d+_")  # number of the trial, experiment, observer


@dataclass(frozen=True)
class Trials:
    """What N images were called, by whom; all arrays (N,).

    Attributes:
        observer: who.
        condition: name of the condition ("c30", "0.35").
        stimulus: what was shown, the same for all observers: see `stimulus_of`.
        category: index of the true category in `CATEGORIES`.
        response: index of the answer; -1 where there was none.
        seconds: reaction time; NaN where there was none.
    """

    observer: npt.NDArray[np.str_]
    condition: npt.NDArray[np.str_]
    stimulus: npt.NDArray[np.str_]
    category: npt.NDArray[np.int64]
    response: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether the answer was right."""
        return np.asarray(self.response == self.category)


def stimulus_of(imagename: str) -> str:
    """What an image's name says of the image itself, and not of when and to whom it was shown.

    >>> stimulus_of("0001_cop_s01_c30_knife_10_n03041632_7380.png")
    'c30_knife_10_n03041632_7380.png'
    """
    return _SHOWN_TO_ONE.sub("", imagename)


def read_trials(paths: Sequence[Path]) -> Trials:
    """The trials of some files, usually one for each observer and session.

    Raises:
        UserError: a file that is no such table, too large, or holds something that is none of the categories; an
            observer who was shown the same stimulus twice; no files.
    """
    if not paths:
        raise UserError("no trial files were given")
    parts = [parse_trials(_text(Path(path)), str(path)) for path in paths]
    whole = Trials(*(np.concatenate([getattr(part, name) for part in parts]) for name in Trials.__dataclass_fields__))
    seen: set[tuple[str, str]] = set()
    for key in zip(whole.observer.tolist(), whole.stimulus.tolist(), strict=True):
        if key in seen:
            raise UserError(f"observer {key[0]} was shown {key[1]} more than once; give each file once")
        seen.add(key)
    if len(seen) > _MOST_TRIALS:
        raise UserError(f"{len(seen)} trials are more than the {_MOST_TRIALS} that are read at once")
    return whole


def parse_trials(text: str, source: str) -> Trials:
    """The trials of one table.

    Args:
        text: of the file.
        source: what messages call it.

    Raises:
        UserError: see `read_trials`.
    """
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: dict[str, list[str]] = {name: [] for name in COLUMNS}
    try:
        header = [name.strip().lower().lstrip("\ufeff") for name in next(rows, [])]
        missing = [name for name in COLUMNS if header.count(name) != 1]
        if missing:
            raise UserError(
                f"{source} is no trial file: it needs the columns {', '.join(COLUMNS)}, each once; "
                f"not so: {', '.join(missing)}"
            )
        places = [header.index(name) for name in COLUMNS]
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise UserError(f"{source}, line {rows.line_num}: {len(row)} fields under {len(header)} columns")
            if len(found["subj"]) >= _MOST_TRIALS:
                raise UserError(f"{source} has more than the {_MOST_TRIALS} trials that are read at once")
            for name, place in zip(COLUMNS, places, strict=True):
                found[name].append(_field(row[place].strip(), f"{source}, line {rows.line_num}"))
    except csv.Error as error:
        raise UserError(f"{source}, line {rows.line_num}: no CSV table ({error})") from None
    if not found["subj"]:
        raise UserError(f"{source} has no trials")
    return Trials(
        observer=np.array(found["subj"]),
        condition=np.array(found["condition"]),
        stimulus=np.array([stimulus_of(name) for name in found["imagename"]]),
        category=np.array([_category(name, source) for name in found["category"]]),
        response=np.array([-1 if n == NO_ANSWER else _category(n, source) for n in found["object_response"]]),
        seconds=np.array([_seconds(value, source) for value in found["rt"]]),
    )


def read_mapping(path: Path) -> dict[str, list[int]]:
    """Which of ImageNet's 1,000 classes belong to each category: a JSON object of lists of indices.

    Raises:
        UserError: no such object; a category is missing or has no classes; an index outside 0..999, or in two of them.
    """
    try:
        given = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON file: {error}") from None
    if not isinstance(given, dict):
        raise UserError(f"{path} holds no categories: it needs an object category -> list of class indices")
    return check_mapping(given, str(path))


def check_mapping(mapping: Mapping[str, object], source: str = "the mapping") -> dict[str, list[int]]:
    """A mapping of classes to categories, checked; in the order of `CATEGORIES`. Errors: see `read_mapping`."""
    for name in mapping:
        if name not in CATEGORIES:
            raise UserError(f"{source}: no category {name!r}; {did_you_mean(str(name), CATEGORIES)}")
    result: dict[str, list[int]] = {}
    owner: dict[int, str] = {}
    for name in CATEGORIES:
        indices = mapping.get(name)
        if not isinstance(indices, list) or not indices:
            raise UserError(f"{source}: {name} needs a list of class indices")
        for index in indices:
            if type(index) is not int or not 0 <= index < CLASSES:
                raise UserError(f"{source}: {name} has the class {str(index)[:40]!r}; they are 0 to {CLASSES - 1}")
            if index in owner:
                raise UserError(f"{source}: class {index} is in {owner[index]} and in {name}")
            owner[index] = name
        result[name] = [int(index) for index in indices]
    return result


def category_probabilities(
    probabilities: npt.ArrayLike, mapping: Mapping[str, Sequence[int]]
) -> npt.NDArray[np.float64]:
    """Probabilities of the sixteen categories: the mean over each one's classes, as published.

    Args:
        probabilities: (..., 1000), not logits.
        mapping: category -> class indices: see `read_mapping`.

    Returns:
        (..., 16), in the order of `CATEGORIES`; they do not add up to 1.

    Raises:
        ValueError: not 1,000 classes, or no probabilities.
    """
    p = np.asarray(probabilities, dtype=float)
    if p.ndim < 1 or p.shape[-1] != CLASSES or not ((p >= 0) & (p <= 1 + 1e-6)).all():
        raise ValueError(f"probabilities of {CLASSES} classes are needed, in [0, 1]; not an array {p.shape}")
    return np.stack([p[..., list(mapping[name])].mean(axis=-1) for name in CATEGORIES], axis=-1)


def _text(path: Path) -> str:
    try:
        return read_file(path, limit=_LARGEST, what=str(path), follow=True).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text file in UTF-8") from None


def _field(value: str, where: str) -> str:
    if len(value) > _LONGEST or not value.isprintable():
        raise UserError(f"{where}: a field of {len(value)} characters, or with control characters, is none of a trial")
    return value


def _category(name: str, source: str) -> int:
    if name not in CATEGORIES:
        raise UserError(f"{source}: no category {name!r}; {did_you_mean(name, CATEGORIES)}")
    return CATEGORIES.index(name)


def _seconds(value: str, source: str) -> float:
    if value.lower() in ("", "na", "nan"):
        return math.nan
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 86_400:
        raise UserError(f"{source}: {value!r} is no reaction time in seconds")
    return seconds
