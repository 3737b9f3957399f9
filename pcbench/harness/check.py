"""`pcbench check THING`: which tests a plug-in is put to, by what it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcbench.data.dataset import DATA
from pcbench.data.geometry import Geometry
from pcbench.data.registry import load_data
from pcbench.errors import UserError, did_you_mean
from pcbench.harness.conformance import Finding, Test, check_model, run_tests
from pcbench.harness.conformance_images import attack_tests, corruption_tests, data_tests, kind_tests
from pcbench.models.base import Preprocessing
from pcbench.models.resolve import RANDOM, Resolved, find, resolve
from pcbench.models.spec import MODELS
from pcbench.perturbations.attacks.attack import ATTACKS
from pcbench.perturbations.attacks.libraries import LIBRARIES
from pcbench.perturbations.base import KINDS
from pcbench.perturbations.corruptions.constants import NAMES
from pcbench.perturbations.corruptions.own import CORRUPTIONS
from pcbench.registry import is_place

_IMAGES = 3


@dataclass(frozen=True)
class Checked:
    """What is checked, and the findings, made one by one.

    Attributes:
        kind: "model", "corruption", "attack", "data" or "perturbation".
        name: what records call it.
        findings: in order.
    """

    kind: str
    name: str
    findings: Iterator[Finding]


def check(thing: str, kind: str | None = None, weights: str | None = None, seed: int = 0) -> Checked:
    """Put a plug-in, or one of ours, to the tests of its kind.

    Args:
        thing: a name, as --model, --data or a suite file has it; "package.module:thing" too.
        kind: what it is, where several things have the name.
        weights: of a model; None for the first at hand, and random ones where none is.
        seed: of what is drawn at random.

    Raises:
        UserError: no such thing, or it cannot be had.
    """
    if kind is not None and kind not in KINDS_OF_THINGS:
        raise UserError(f"nothing of the kind {kind!r} can be checked; {did_you_mean(kind, KINDS_OF_THINGS)}")
    found = kind or _kind_of(thing)
    if found == "model":
        resolved = _model(thing, weights)
        return Checked(found, f"{resolved.name} [{resolved.weights}]", _check_model(resolved, seed))
    if weights is not None:
        raise UserError(f"weights are for models; {thing} is of the kind {found}")
    return Checked(found, thing, run_tests(KINDS_OF_THINGS[found](thing)))


def _check_model(resolved: Resolved, seed: int) -> Iterator[Finding]:
    yield from check_model(resolved, sample_images(resolved.preprocessing), seed)


def sample_images(preprocessing: Preprocessing) -> Tensor:
    """Some real images as a model takes them: (3, C, H, W) in [0, 1]."""
    samples, geometry = load_data("samples"), Geometry.of(preprocessing)
    pixels = [geometry.prepare(samples.decode(position, samples.raw(position))) for position in range(_IMAGES)]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return images[:, : len(preprocessing.mean)]


def _model(name: str, weights: str | None) -> Resolved:
    named = find(name)
    if weights is None and named.tag is None and all(entry.missing() for entry in named.spec.weights):
        return resolve(name, RANDOM)
    return resolve(name, weights)


def _corruption(name: str) -> list[Test]:
    return corruption_tests(name, (sample_images(Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3, resize=64)) * 255)
        .round().to(torch.uint8).permute(0, 2, 3, 1).contiguous())  # fmt: skip


def _data(name: str) -> list[Test]:
    source = DATA[name]
    return data_tests(load_data(name), source.label_space, lambda: load_data(name))


def _perturbation(name: str) -> list[Test]:
    return kind_tests(KINDS[name])


KINDS_OF_THINGS: dict[str, Callable[[str], list[Test]]] = {
    "model": lambda _: [],
    "corruption": _corruption,
    "attack": attack_tests,
    "data": _data,
    "perturbation": _perturbation,
}


def _kind_of(thing: str) -> str:
    """The kind of thing that a name is. Raises UserError: none, or several."""
    source = thing.partition(":")[0] if not is_place(thing.partition("@")[0].partition("?")[0]) else ""
    if is_place(thing):
        return _kind_of_place(thing)
    known = {
        "model": thing.partition("@")[0].partition("?")[0] in MODELS or bool(source and ":" in thing),
        "corruption": thing in NAMES or thing in CORRUPTIONS,
        "attack": thing in ATTACKS,
        "data": thing in DATA,
        "perturbation": thing in KINDS,
    }
    found = [kind for kind, there in known.items() if there]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{thing} is a {' and a '.join(found)}; say which: --kind {found[0]}")
    names = [*MODELS.names(), *NAMES, *CORRUPTIONS.names(), *ATTACKS.names(), *DATA.names(), *KINDS.names()]
    raise UserError(f"nothing is called {thing!r}; {did_you_mean(thing, names)}")


def _kind_of_place(place: str) -> str:
    """What lies at "package.module:thing", by who takes it. Raises UserError: nobody does."""
    from pcbench.models.spec import MODEL_SOURCES
    from pcbench.registry import thing_at

    if place.partition(":")[0] in MODEL_SOURCES:
        return "model"
    if place.partition(":")[0] in LIBRARIES:
        return "attack"
    thing_at(place, "thing")  # says what is wrong where there is none
    for kind, registry in (("corruption", CORRUPTIONS), ("attack", ATTACKS), ("data", DATA), ("perturbation", KINDS)):
        try:
            registry[place]
        except UserError:
            continue
        return kind
    find(place)  # says what is wrong where it is no model either
    return "model"
