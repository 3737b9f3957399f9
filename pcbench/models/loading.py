"""From a name to a model with weights: `load_model`, and the choices that it makes where the user made none."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from urllib.parse import parse_qsl

import torch

from pcbench.errors import UserError, did_you_mean
from pcbench.models.base import IMAGENET_224 as DEFAULT_PREPROCESSING
from pcbench.models.base import FeedforwardClassifier, TemporalClassifier
from pcbench.models.spec import MODEL_SOURCES, MODELS, ModelSpec, Weights

RANDOM = "random"


@dataclass(frozen=True)
class Choice:
    """A model and weights as they will be loaded.

    Attributes:
        spec: the registered model.
        weights: the chosen weights.
        options: builder options from the name's query part and the caller.
        notice: one line when the choice was ours and could surprise, else None.
    """

    spec: ModelSpec
    weights: Weights
    options: Mapping[str, object]
    notice: str | None = None


def find_model(name: str) -> tuple[ModelSpec, dict[str, object]]:
    """The model of a name, and the options in its query part.

    Names: a registered one ("pvgg16"), "timm:NAME", "torchvision:NAME", "predify:NAME", "averaging:NAME",
    "diffusion:NAME", "package.module:function"; each may end in "?option=value&option=value".

    Raises:
        UserError: no such model, source, module, function or option.
    """
    base, _, query = name.partition("?")
    options: dict[str, object] = dict(parse_qsl(query, keep_blank_values=True))
    source, colon, rest = base.partition(":")
    if not colon:
        spec = MODELS[base]
    elif source in MODEL_SOURCES:
        spec = MODEL_SOURCES[source](rest)
    else:
        spec = _from_function(source, rest)
    for option in options:
        if option not in spec.options:
            raise UserError(f"{spec.name} has no option {option!r}; {did_you_mean(option, spec.options)}")
    return spec, options


def choose(name: str, weights: str | None = None, **options: object) -> Choice:
    """Find a model and settle its weights: the named tag, or the first whose files are at hand.

    Files that are missing are downloaded, where their library does that, when the user named the tag or when no
    weights at all are at hand.

    Raises:
        UserError: unknown model, tag or option; or no weights at hand, with what is missing and what runs instead.
    """
    spec, from_name = find_model(name)
    for option in options:
        if option not in spec.options:
            raise UserError(f"{spec.name} has no option {option!r}; {did_you_mean(option, spec.options)}")
    merged = {**from_name, **options}
    if weights == RANDOM:
        return Choice(spec, replace(spec.weights[0], tag=RANDOM, sources={}), merged)
    tags = {entry.tag: entry for entry in spec.weights}
    if weights is not None:
        if weights not in tags:
            raise UserError(f"{spec.name} has no weights {weights!r}; {did_you_mean(weights, [*tags, RANDOM])}")
        entry = _fetched(spec, tags[weights])
        of = f"{spec.name}: weights {entry.tag!r} are those of the network {entry.network}"
        return Choice(spec, entry, merged, of if entry.network else None)
    first_missing = spec.weights[0].missing()
    for entry in spec.weights:
        if entry.missing():
            continue
        notice = None
        if entry is not spec.weights[0]:
            of = f" of the network {entry.network}" if entry.network else ""
            notice = (
                f"{spec.name}: using weights {entry.tag!r}{of} ({entry.data}), since {spec.weights[0].tag!r} is not at "
            )
            notice += f"hand: missing {'; '.join(first_missing)}"
        return Choice(spec, entry, merged, notice)
    return Choice(spec, _fetched(spec, spec.weights[0]), merged)


def _fetched(spec: ModelSpec, weights: Weights) -> Weights:
    """The weights, once every file of them is there."""
    problems = []
    for source in weights.sources.values():
        try:
            source.path()
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError(f"{spec.name}, weights {weights.tag!r}: {'; '.join(problems)}{_instead(spec)}")
    return weights


def _instead(spec: ModelSpec) -> str:
    at_hand = [entry.tag for entry in spec.weights if not entry.missing()]
    return f"; what runs now: --weights {' or '.join([*at_hand, RANDOM])}"


def build(
    choice: Choice, device: str | torch.device = "cpu", seed: int = 0, *, merge: bool = True
) -> TemporalClassifier:
    """Make the chosen model, in eval mode, its parameters without gradients.

    Args:
        choice: from `choose`.
        device: where to put it.
        seed: of a random initialisation.
        merge: merge layers that are one linear map at evaluation, see TemporalClassifier.merge_layers.
    """
    spec = choice.spec if choice.weights.network is None else find_model(choice.weights.network)[0]
    model = spec.build(spec, choice.weights, choice.options, seed)
    if spec is not choice.spec:
        model.provenance["network"] = spec.name
    if choice.weights.timesteps is not None:
        model.timesteps = choice.weights.timesteps
    model.name = choice.spec.name
    model.weights = choice.weights.tag
    model = model.eval().requires_grad_(False).to(device)
    if merge:
        model.merge_layers()
    return model.to(memory_format=torch.channels_last)  # the layout that convolutions are fastest in; no value changes


def load_model(
    name: str,
    weights: str | None = None,
    device: str | torch.device = "cpu",
    *,
    seed: int = 0,
    **options: object,
) -> TemporalClassifier:
    """A classifier over images in [0, 1], by name.

    Args:
        name: see `find_model`.
        weights: a tag of the model, or "random" (initialised with the seed); None for the first tag at hand.
        device: where to put it.
        seed: of a random initialisation.
        options: the model's own, e.g. dynamics="no-error".

    Returns:
        The model in eval mode: model(images, timesteps=T) -> (T + 1, B, classes).

    Raises:
        UserError: see `choose`.
    """
    return build(choose(name, weights, **options), device, seed)


def _from_function(module: str, function: str) -> ModelSpec:
    try:
        make = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name is not None and not module.startswith(error.name):
            raise UserError(f"model {module}:{function}: its module needs {error.name!r}, which is missing") from error
        raise UserError(
            f"no model {module}:{function}: there is no source or module {module!r}; "
            f"{did_you_mean(module, MODEL_SOURCES.names())}"
        ) from None
    except AttributeError:
        known = [name for name in dir(import_module(module)) if not name.startswith("_")]
        raise UserError(f"no model {module}:{function}; {did_you_mean(function, known)}") from None

    def build_function(
        spec: ModelSpec, weights: Weights, options: Mapping[str, object], seed: int
    ) -> TemporalClassifier:
        torch.manual_seed(seed)
        made = make()
        if isinstance(made, TemporalClassifier):
            return made
        if not isinstance(made, torch.nn.Module):
            raise UserError(f"{module}:{function} returned {type(made).__name__}; it must return an nn.Module")
        with torch.no_grad():
            probe = made.eval()(torch.zeros(1, 3, *weights.preprocessing.size))
        if not isinstance(probe, torch.Tensor) or probe.ndim != 2:
            raise UserError(f"{module}:{function} must map images (B, 3, H, W) to logits (B, classes)")
        classes = int(probe.shape[1])
        return FeedforwardClassifier(made, classes, weights.preprocessing)

    own = Weights("own", DEFAULT_PREPROCESSING, 1000, "imagenet", description="as the function loads them")
    return ModelSpec(
        name=f"{module}:{function}",
        family="feedforward",
        description="a model of another package",
        build=build_function,
        weights=(own,),
    )
