"""A network of ours with random parameters, to train."""

from pathlib import Path

from pcbench.errors import UserError
from pcbench.models.base import TemporalClassifier
from pcbench.models.resolve import RANDOM, find, outline, tagged
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
    named = find(name)
    spec = named.spec
    entry = tagged(spec, named.tag if tag is None else tag)
    source = entry.sources.get("network")
    ours = isinstance(source, UserFile) or (isinstance(source, InstalledFile) and source.package == "pcbench")
    if not ours or len(entry.sources) > 1:
        raise UserError(
            f"{spec.name} is not trained as a whole here; the networks that are: vgg16-cifar, hah-vgg16, convrnn-..., "
            "cornet-rt (`pcbench models`)"
        )
    model = outline(name, entry.tag).build(seed=seed)
    model.weights = RANDOM
    return model, entry, weights_folder() / source.file if isinstance(source, UserFile) else None
