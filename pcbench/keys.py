"""The nouns of a result: model, data, condition, cell. Typed, frozen, with one canonical form and one digest.

Whatever identifies a number is one of these. Labels for people are made from keys, at the end (`label`), and are never
parsed back. This module imports nothing else of pcbench.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import field, fields, is_dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

Measure = Literal["predictions", "representations"]
K = TypeVar("K", bound="Key")

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=False)
_LONGEST_TEXT = 65_536  # characters of a key's canonical form: keys from outside are read no longer than this
_UNSAFE = re.compile(r"[^A-Za-z0-9.+=_-]+")


def canonical(value: object) -> Any:
    """A value in the one form that a digest is made of: JSON values, integers as int, real numbers as float.

    >>> canonical({"b": (1, 2.5), "a": None})
    {'b': [1, 2.5], 'a': None}

    Raises:
        TypeError: a value that has no such form; a key must not depend on how an object happens to be printed.
        ValueError: a number that is not finite.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"{number} cannot be part of a key")
        return number
    if isinstance(value, Mapping):
        return {str(name): canonical(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: canonical(getattr(value, each.name)) for each in fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be part of a key")


def digest_of(value: object) -> str:
    """SHA-256 of a value's canonical form, in hexadecimal: two values of equal digests are the same value."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Key:
    """What all keys have: a canonical text, a digest, equality and order by them."""

    @cached_property
    def text(self) -> str:
        """The canonical form: JSON with sorted names and numbers at full precision."""
        return json.dumps(canonical(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `text`, 64 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Key) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@dataclass(frozen=True, eq=False, config=_STRICT)
class ModelKey(Key):
    """A network with its parameters.

    Attributes:
        name: registered name, or "timm:resnet18", "mymodel:net", ...
        weights: tag of the weights.
        options: what was asked of the builder (dynamics, hyperparameters, ...); JSON values.
        checksum: SHA-256 over the parameters and buffers that were loaded.
        source: SHA-256 over source and plain attributes of a network of the user's own; "" for one of the package's.
        baseline: the network that it is to be compared with; None for one that is its own, or where none is at hand.
    """

    name: str
    weights: str
    options: Mapping[str, Any] = field(default_factory=dict)
    checksum: str = ""
    source: str = ""
    baseline: "ModelKey | None" = None

    @property
    def label(self) -> str:
        """What people call it: the name, and the options that tell it from the plain network."""
        shown = "&".join(f"{name}={_shown(value)}" for name, value in sorted(self.options.items()))
        return f"{self.name}?{shown}" if shown else self.name


@dataclass(frozen=True, eq=False, config=_STRICT)
class DataKey(Key):
    """The images of a cell.

    Attributes:
        name: of the data set.
        fingerprint: SHA-256 over ids, labels and contents of the images that were used.
        n: their number.
    """

    name: str
    fingerprint: str
    n: int


@dataclass(frozen=True, eq=False, config=_STRICT)
class Condition(Key):
    """One way of perturbing images, at one strength. Belongs to no suite: a suite is a list of conditions.

    Attributes:
        kind: which perturbation makes it ("clean", "corruption", "noise", "attack", ...): see pcbench.perturbations.
        perturbation: name in the results ("fog", "gaussian-noise", "pgd").
        group: for group means ("noise", "blur", "weather", "digital", "attack", "clean").
        severity: 1-5 for a corruption, sigma for noise, epsilon for an attack, 0 for clean; at full precision.
        params: what else the perturbation needs (JSON values).
    """

    kind: str
    perturbation: str
    group: str
    severity: float
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What people call it, e.g. "fog 3"."""
        return f"{self.perturbation} {self.severity:.6g}" if self.severity else self.perturbation


@dataclass(frozen=True, eq=False, config=_STRICT)
class CellKey(Key):
    """One model on some images under one condition: all that decides the records of one file.

    Attributes:
        model, data, condition: see there.
        timesteps: T; 0 for a network without dynamics.
        measure: "predictions", or "representations": also how far each PCoder's representation is from the clean one.
        seed: of everything random.
        dtype: "float32", or "bfloat16" for autocast.
        settings: what else decides results, of which the user chose another value than the default ({"tf32": True}).
        numerics: version of the code that computes results, see `pcbench.numerics`.
    """

    model: ModelKey
    data: DataKey
    condition: Condition
    timesteps: int
    measure: Measure
    seed: int
    dtype: str
    numerics: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """A file name for the cell, without its ending: words for people, then 128 bits of the digest.

        Made of letters, digits and ".+=-_" alone, whatever the key holds; at most 120 characters.
        """
        words = (self.model.label, self.model.weights, self.condition.label)
        name = _UNSAFE.sub("-", "_".join(word.replace("_", "-") for word in words)).strip(".-")
        return f"{name[:80]}_{self.digest[:32]}"


class BadKeyError(ValueError):
    """A text from outside that is no key; the message is one line."""


def read_key(kind: type[K], value: object) -> K:
    """A key from JSON values that come from outside, checked.

    Raises:
        BadKeyError: a name is missing, unknown or of another kind; or the whole is longer than any key.
    """
    try:
        key = TypeAdapter(kind).validate_python(value, strict=False)
        if len(key.text) > _LONGEST_TEXT:
            raise BadKeyError("longer than any key")
        if not all(text.isprintable() for text in _texts(canonical(key))):  # it will stand in terminals and tables
            raise BadKeyError("it has characters that cannot be printed")
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "it"
        raise BadKeyError(f"{place}: {problem['msg']}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise BadKeyError(str(error)) from None
    return key


def _texts(value: Any) -> Iterator[str]:
    """All text in JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ",".join(map(_shown, value))
    return str(value).replace("\\", "/").rsplit("/", 1)[-1]
