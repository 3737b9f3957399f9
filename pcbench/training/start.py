"""The network that a training of feedback weights or hyperparameters begins with."""

from dataclasses import replace
from pathlib import Path

import torch

from pcbench.errors import UserError
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.resolve import RANDOM, Resolved, find, outline, resolve, tagged
from pcbench.models.sources import UserFile, weights_folder
from pcbench.models.spec import Weights, WeightSource


def without_feedback(
    name: str, weights: str | None = None, device: str | torch.device = "cpu", seed: int = 0
) -> PredictiveClassifier:
    """A predictive network with its backbone's weights, its predictors drawn with the seed.

    Args:
        name: as `load_model`'s.
        weights: a tag of the model, whose feedback file need not exist, or "random"; None for the first whose backbone
            is at hand.
        device: where to put it.
        seed: of what is not loaded.

    Raises:
        UserError: unknown model or tag, the backbone's weights are missing, or the network is not predictive.
    """
    named = find(name)
    tag = named.tag if weights is None else weights
    if tag is not None:
        entry = _without(tagged(named.spec, tag), "feedback")
    else:
        entries = [_without(entry, "feedback") for entry in named.spec.weights]
        entry = next((entry for entry in entries if not entry.missing()), entries[0])
    for source in entry.sources.values():
        source.path()  # downloads it where its library does that, or says what is missing
    return _predictive(replace(outline(name, entry.tag), entry=entry), device, seed)


def structure(name: str, weights: str | None = None) -> PredictiveClassifier:
    """A predictive network of which only the form matters: nothing is loaded, so no file need be at hand.

    Its `weights` is the tag that was asked for, or the model's first. Raises UserError as `without_feedback`.
    """
    return _predictive(outline(name, weights), "cpu", 0)


def feedback_source(name: str, weights: str) -> WeightSource:
    """Where a model's feedback weights lie. Raises UserError: it has none."""
    named = find(name)
    sources = tagged(named.spec, weights).sources
    if "feedback" not in sources:
        why = "those of a random backbone are drawn with it" if weights == RANDOM else "there are none"
        raise UserError(f"{named.spec.name}, weights {weights!r}: no file of feedback weights belongs to them: {why}")
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
    named = find(name)
    return tagged(named.spec, named.tag if weights is None else weights).data


def predictive(
    name: str, weights: str | None = None, device: str | torch.device = "cpu", seed: int = 0
) -> PredictiveClassifier:
    """A predictive network with all its weights, as `load_model`; raises UserError when it is not predictive."""
    return _predictive(resolve(name, weights), device, seed)


def _without(entry: Weights, role: str) -> Weights:
    return replace(entry, sources={other: file for other, file in entry.sources.items() if other != role})


def _predictive(resolved: Resolved, device: str | torch.device, seed: int) -> PredictiveClassifier:
    model = resolved.build(device, seed)
    if not isinstance(model, PredictiveClassifier):
        raise UserError(
            f"{resolved.name} is not a predictive network (family {resolved.family}); "
            "`pcbench models` lists those, and predify:NAME makes one of any network"
        )
    return model
