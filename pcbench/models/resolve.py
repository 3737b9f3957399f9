"""From (name, tag, options) to a network with its weights, preprocessing and classes: the only place that chooses.

What is asked for is what comes. Where the user left the weights open, they are the first at hand of that very network.
The command line alone may go on with a network's counterpart for other images (`cross`), under the counterpart's name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from urllib.parse import parse_qsl

import torch
from torch import nn

from pcbench.errors import UserError, did_you_mean
from pcbench.models.base import Preprocessing, TemporalClassifier
from pcbench.models.options import Json, read_options
from pcbench.models.sources import downloads
from pcbench.models.spec import MODEL_SOURCES, MODELS, ModelSpec, Weights
from pcbench.registry import is_place

RANDOM = "random"
"""The tag of parameters that are drawn with a seed; every network of ours has it."""


@dataclass(frozen=True)
class Named:
    """What a name says: a model, and perhaps a tag and options, as they were written.

    A name is a registered one ("pvgg16"), "SOURCE:NAME" ("timm:resnet18", "predify:NAME", ...) or
    "package.module:function"; each may go on with "@TAG" and with "?option=value&option=value".
    """

    spec: ModelSpec
    tag: str | None
    options: Mapping[str, object]


@dataclass(frozen=True)
class Resolved:
    """A model as it will run. Nothing is loaded yet.

    Attributes:
        spec: the model.
        entry: the weights.
        given: options, for the builder.
        notices: one line for each choice that was not the user's.
    """

    spec: ModelSpec
    entry: Weights
    given: Mapping[str, Json] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of what runs, which is what was asked for but for a counterpart."""
        return self.spec.name

    @property
    def weights(self) -> str:
        """Tag of the weights."""
        return self.entry.tag

    @cached_property
    def options(self) -> dict[str, Json]:
        """The options that were given, as records and keys hold them: JSON values."""
        return {name: self.spec.options[name].record(value) for name, value in self.given.items()}

    @property
    def label_space(self) -> str:
        """Whose classes the weights know: "imagenet", "cifar10", ..., or "10 classes" of nobody knows whom."""
        return self.entry.data

    @property
    def any_order(self) -> bool:
        """Whether the network declares the number of its classes only, so that labels are taken as the data have them."""
        return self.label_space == f"{self.entry.num_classes} classes"

    @cached_property
    def num_classes(self) -> int:
        """Length of the logits. A network of the user's own that names a label space is built to find out."""
        return self.entry.num_classes or self.build().num_classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become the network's input."""
        return self.entry.preprocessing

    @property
    def timesteps(self) -> int:
        """Default T; 0 for a network without dynamics."""
        return self.spec.timesteps if self.entry.timesteps is None else self.entry.timesteps

    @property
    def family(self) -> str:
        """See ModelSpec."""
        return self.spec.family

    @property
    def description(self) -> str:
        """See ModelSpec."""
        return self.spec.description

    @property
    def source(self) -> str:
        """SHA-256 over the source of a network of the user's own; "" for those of this package."""
        return self.spec.source

    @cached_property
    def baseline(self) -> "Resolved | None":
        """The feedforward network with the same weights, or its own of the same tag; None where none is at hand."""
        if self.spec.baseline is None:
            return None
        named = find(self.spec.baseline)
        tag = self.weights if self.entry.baseline is None else self.entry.baseline
        entry = _tags(named.spec).get(RANDOM if self.weights == RANDOM else tag)
        if entry is None or entry.missing():
            return None
        given = {name: value for name, value in self.given.items() if name in named.spec.options}
        return Resolved(
            named.spec, entry, {**read_options(named.spec.name, named.spec.options, named.options), **given}
        )

    def build(self, device: str | torch.device = "cpu", seed: int = 0) -> TemporalClassifier:
        """Make the model: in eval mode, its parameters those of the files, without gradients, nothing merged or cast.

        Args:
            device: where to put it.
            seed: of what is drawn at random; torch's global generator stays as it is.

        Raises:
            UserError: a file is missing or damaged, or does not fit; or a network of the user's own is none.
        """
        model = self.spec.build(self.spec, self.entry, self.given, seed)
        if self.entry.timesteps is not None:
            model.timesteps = self.entry.timesteps
        model.name = self.name
        model.weights = self.weights
        model = model.eval().requires_grad_(False).to(device)
        return model.to(memory_format=torch.channels_last)  # in which convolutions are fastest; no value changes


def resolve(
    name: str | nn.Module,
    weights: str | None = None,
    *,
    options: Mapping[str, object] | None = None,
    cross: bool = False,
) -> Resolved:
    """Settle which network runs, with which weights.

    Args:
        name: see Named; or a network of the user's own, declared with `pcbench.network`.
        weights: a tag of the model, or "random"; None for the one in the name, or the first at hand.
        options: of the model, as text or Python values; they go before those in the name.
        cross: where the user left the weights open and this network has none at hand, take its counterpart for other
            images, and say so. Also where the tag is one of the counterpart's only.

    Raises:
        UserError: no such model, source, module, function, tag or option; two tags; or no weights at hand, with what
            would help.
    """
    named = find(name, options)
    if weights is not None and named.tag is not None and weights != named.tag:
        raise UserError(f"{name} says weights {named.tag!r}, and {weights!r} are asked for; name one")
    tag = named.tag if weights is None else weights
    notices: list[str] = []
    spec = named.spec
    if cross and spec.counterpart is not None and _crosses(spec, tag):
        other = find(spec.counterpart).spec
        why = "no weights of its own are at hand" if tag is None else f"weights {tag!r} are that network's"
        notices.append(f"{spec.name} runs as {other.name}: {why} (pcbench models '{spec.name}' says what is missing)")
        spec = other
    given = read_options(spec.name, spec.options, named.options)
    entry = _first_at_hand(spec) if tag is None else _with_tag(spec, tag)
    if tag is None and entry is not spec.weights[0]:
        notices.append(f"{spec.name}: weights {entry.tag!r}, the first at hand (pcbench models '{spec.name}')")
    return Resolved(spec, entry, given, tuple(notices))


def find(name: str | nn.Module, options: Mapping[str, object] | None = None) -> Named:
    """The model of a name.

    Args:
        name: see Named; or a network of the user's own.
        options: further options, which go before those in the name; a source may make another model of them.

    Raises:
        UserError: no such model, source, module, function or option.
    """
    if isinstance(name, nn.Module):
        from pcbench.models.foreign import module_spec

        return Named(module_spec(name), None, options or {})
    place, _, query = name.partition("?")
    merged: dict[str, object] = {**dict(parse_qsl(query, keep_blank_values=True)), **(options or {})}
    place, at, tag = place.partition("@")
    source, colon, rest = place.partition(":")
    if colon and source in MODEL_SOURCES:
        spec = MODEL_SOURCES[source](rest, merged)
    elif colon and not is_place(place):
        raise UserError(
            f"no model {place!r}: there is no source {source!r}; {did_you_mean(source, MODEL_SOURCES.names())}"
        )
    else:
        close = did_you_mean(source, MODEL_SOURCES.names()) if colon else ""
        try:
            spec = MODELS[place]
        except UserError as error:
            raise UserError(f"{error}; {close}" if close.startswith("did") else str(error)) from error.__cause__
    read_options(spec.name, spec.options, merged)  # refuses what cannot be
    return Named(spec, tag if at else None, merged)


def outline(name: str | nn.Module, weights: str | None = None) -> Resolved:
    """A model of which only the form matters: no file is loaded, so none need be at hand.

    Its weights are those of the tag, or the model's first, with all their options; parameters are drawn with a seed.
    Only a network of the user's own loads what it loads. Raises UserError: no such model, option or tag.
    """
    named = find(name)
    entry = tagged(named.spec, named.tag if weights is None else weights)
    given = read_options(named.spec.name, named.spec.options, named.options)
    return Resolved(named.spec, replace(entry, sources={}), given)


def load_model(
    name: str | nn.Module,
    weights: str | None = None,
    device: str | torch.device = "cpu",
    *,
    seed: int = 0,
    **options: object,
) -> TemporalClassifier:
    """A classifier over images in [0, 1], by name.

    Args:
        name: a registered name ("pvgg16"), "timm:NAME", "torchvision:NAME", "predify:NAME", ...,
            "package.module:function", each perhaps with "@TAG" and "?option=value"; or a network that is declared with
            `pcbench.network`.
        weights: a tag of the model; "random", initialised with the seed; None for the first at hand of that very
            network.
        device: where to put it.
        seed: of a random initialisation; torch's global generator stays as it is.
        options: the model's own, e.g. dynamics="no-error".

    Returns:
        The model in eval mode: model(images, timesteps=T) -> (T + 1, B, classes).

    Raises:
        UserError: no such model, tag or option; or no weights at hand, with what would help.
    """
    return resolve(name, weights, options=options).build(device, seed)


def tagged(spec: ModelSpec, tag: str | None) -> Weights:
    """The entry of a tag, "random" included, whether or not its files are there; the first for None.

    Raises:
        UserError: there is no such tag.
    """
    if tag is None:
        return spec.weights[0]
    tags = _tags(spec)
    if tag not in tags:
        raise UserError(f"{spec.name} has no weights {tag!r}; {did_you_mean(tag, tags)}")
    return tags[tag]


def _tags(spec: ModelSpec) -> dict[str, Weights]:
    return {**{entry.tag: entry for entry in spec.weights}, RANDOM: replace(spec.weights[0], tag=RANDOM, sources={})}


def _crosses(spec: ModelSpec, tag: str | None) -> bool:
    if tag is None:
        return all(entry.missing() for entry in spec.weights)
    assert spec.counterpart is not None
    return tag not in _tags(spec) and tag in _tags(find(spec.counterpart).spec)


def _first_at_hand(spec: ModelSpec) -> Weights:
    for entry in spec.weights:
        if not entry.missing():
            return entry
    first = spec.weights[0]
    ways = [f"--weights {first.tag} downloads them"] if downloads(first.sources.values()) else []
    if spec.counterpart is not None:
        ways.append(f"its counterpart for other images is {spec.counterpart}")
    ways.append(f"what runs now: --weights {RANDOM}")
    raise UserError(f"{spec.name}: no weights are at hand; missing: {'; '.join(first.missing())}; {'; '.join(ways)}")


def _with_tag(spec: ModelSpec, tag: str) -> Weights:
    """The weights of a tag, once every file of them is there: downloaded first, where their library does that."""
    entry = tagged(spec, tag)
    problems = []
    for source in entry.sources.values():
        try:
            source.path()
        except UserError as error:
            problems.append(str(error))
    if problems:
        at_hand = [entry.tag for entry in spec.weights if not entry.missing()]
        runs = f"what runs now: --weights {' or '.join([*at_hand, RANDOM])}"
        raise UserError(f"{spec.name}, weights {tag!r}: {'; '.join(problems)}; {runs}")
    return entry
