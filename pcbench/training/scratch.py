"""A network of ours with random parameters, to train."""

from dataclasses import replace
from pathlib import Path

from pcbench.errors import UserError, did_you_mean
from pcbench.models.base import TemporalClassifier
from pcbench.models.loading import RANDOM, Choice, build, find_model
from pcbench.models.sources import InstalledFile, UserFile, weights_folder
from pcbench.models.spec import Weights


def from_scratch(name: str, tag: str | None, seed: int) -> tuple[TemporalClassifier, Weights, Path | None]:
    """A model with parameters drawn from a seed, built as one of its tags says.

    Args:
        name: as `load_model`'s.
        tag: of the weights to make; None for the model's first.
        seed: of the parameters.

    Returns:
        The model, the tag's entry, and where the tag looks for a file trained here; None when one is shipped.

    Raises:
        UserError: no such model or tag, or a model whose parameters are not trained here.
    """
    spec, options = find_model(name)
    tags = {entry.tag: entry for entry in spec.weights}
    if tag is not None and tag not in tags:
        raise UserError(f"{spec.name} has no weights {tag!r}; {did_you_mean(tag, tags)}")
    entry = spec.weights[0] if tag is None else tags[tag]
    if entry.network is not None:
        raise UserError(f"{spec.name}: weights {entry.tag!r} are those of {entry.network}; train that network")
    source = entry.sources.get("network")
    ours = isinstance(source, UserFile) or (isinstance(source, InstalledFile) and source.package == "pcbench")
    if not ours or len(entry.sources) > 1:
        raise UserError(
            f"{spec.name} is not trained as a whole here; the networks that are: vgg16-cifar, hah-vgg16, convrnn-..., "
            "cornet-rt (`pcbench models`)"
        )
    model = build(Choice(spec, replace(entry, tag=RANDOM, sources={}), options), seed=seed, merge=False)
    return model, entry, weights_folder() / source.file if isinstance(source, UserFile) else None
