"""The network that a training of feedback weights or hyperparameters begins with."""

from dataclasses import replace
from pathlib import Path

import torch

from pcbench.errors import UserError, did_you_mean
from pcbench.models.loading import RANDOM, Choice, build, choose, find_model
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.sources import UserFile, weights_folder
from pcbench.models.spec import ModelSpec, Weights, WeightSource


def without_feedback(
    name: str, weights: str | None = None, device: str | torch.device = "cpu", seed: int = 0
) -> PredictiveClassifier:
    """A predictive network with its backbone's weights, its predictors drawn with the seed.

    Args:
        name: as `load_model`'s.
        weights: a tag of the model, whose feedback file need not exist; None for the first whose backbone is at hand.
        device: where to put it.
        seed: of what is not loaded.

    Raises:
        UserError: unknown model or tag, the backbone's weights are missing, or the network is not predictive.
    """
    spec, options = find_model(name)
    entries = {
        entry.tag: replace(entry, sources={role: file for role, file in entry.sources.items() if role != "feedback"})
        for entry in spec.weights
    }
    if weights is None:
        own = [entries[entry.tag] for entry in spec.own_weights()]
        entry = next((entry for entry in own if not entry.missing()), own[0])
    elif weights in entries:
        entry = entries[weights]
    elif weights == RANDOM:
        return _predictive(choose(name, RANDOM), device, seed)
    else:
        raise UserError(f"{spec.name} has no weights {weights!r}; {did_you_mean(weights, [*entries, RANDOM])}")
    if entry.network is not None:
        raise UserError(f"{spec.name}: weights {entry.tag!r} are those of {entry.network}; train that network")
    for source in entry.sources.values():
        source.path()  # downloads it where its library does that, or says what is missing
    return _predictive(Choice(spec, entry, options), device, seed)


def structure(name: str, weights: str | None = None) -> PredictiveClassifier:
    """A predictive network of which only the form matters: nothing is loaded, so no file need be at hand.

    Its `weights` is the tag that was asked for, or the model's first. Raises UserError as `without_feedback`.
    """
    spec, options = find_model(name)
    entry = _entry(spec, weights)
    model = _predictive(Choice(spec, replace(entry, sources={}), options), "cpu", 0)
    model.weights = entry.tag
    return model


def feedback_source(name: str, weights: str) -> WeightSource:
    """Where a model's feedback weights lie. Raises UserError: it has none."""
    spec, _ = find_model(name)
    sources = _entry(spec, weights).sources
    if "feedback" not in sources:
        raise UserError(f"{spec.name}, weights {weights!r}: there are no feedback weights")
    return sources["feedback"]


def feedback_place(name: str, weights: str) -> Path:
    """Where feedback weights of one's own go, so that the model finds them.

    Raises:
        UserError: the model has none, or finds them elsewhere (in this package).
    """
    source = feedback_source(name, weights)
    if not isinstance(source, UserFile):
        raise UserError(f"{name}, weights {weights!r}: the feedback weights are those of an installed package")
    return weights_folder() / source.file


def label_space(name: str, weights: str | None = None) -> str:
    """Whose classes a model's weights know ("imagenet", "cifar10"). Raises UserError: unknown model or tag."""
    if weights == RANDOM:
        weights = None
    return _entry(find_model(name)[0], weights).data


def predictive(
    name: str, weights: str | None = None, device: str | torch.device = "cpu", seed: int = 0
) -> PredictiveClassifier:
    """A predictive network with all its weights, as `load_model`; raises UserError when it is not predictive."""
    return _predictive(choose(name, weights), device, seed)


def _entry(spec: ModelSpec, weights: str | None) -> Weights:
    tags = {entry.tag: entry for entry in spec.weights}
    if weights is None:
        return spec.weights[0]
    if weights not in tags:
        raise UserError(f"{spec.name} has no weights {weights!r}; {did_you_mean(weights, tags)}")
    return tags[weights]


def _predictive(choice: Choice, device: str | torch.device, seed: int) -> PredictiveClassifier:
    model = build(choice, device, seed)
    if not isinstance(model, PredictiveClassifier):
        raise UserError(
            f"{choice.spec.name} is not a predictive network (family {choice.spec.family}); "
            "`pcbench models` lists those, and predify:NAME makes one of any network"
        )
    return model
