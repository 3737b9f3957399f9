"""What models there are, what each needs, and whether it is at hand."""

from pcbench.models.feedforward import Unusable
from pcbench.models.resolve import RANDOM, find, outline
from pcbench.models.spec import MODEL_SOURCES, MODELS, ModelSpec, Weights

Row = dict[str, object]

SOURCES_HELP = {
    "timm": "timm:NAME, a feedforward network of timm",
    "torchvision": "torchvision:NAME, a classifier of torchvision",
    "predify": "predify:NAME?config=FILE, any feedforward model, made predictive",
    "averaging": "averaging:NAME?sigma=0.1, a control: averaged over passes with noise",
    "diffusion": "diffusion:NAME?sigma=0.5, a control: on an ever more blurred image",
    "robustbench": "robustbench:DATA/THREAT/NAME, a model of RobustBench",
}


def list_models() -> list[Row]:
    """The registered models, sorted by family and name.

    Returns:
        One dict a model: name, family, description, timesteps (default T, with the first weights at hand), baseline,
        counterpart, weights (tags), at_hand (those tags whose files are there; "random" always is), needs (tag ->
        missing files, one line each).
    """
    rows = [_row(spec) for _, spec in MODELS]
    return sorted(rows, key=lambda row: (str(row["family"]), str(row["name"])))


def list_sources() -> list[Row]:
    """Where further models come from by name: name and description of each source."""
    names = MODEL_SOURCES.names()
    return [{"name": name, "description": SOURCES_HELP.get(name, f"{name}:NAME, from an extension")} for name in names]


def broken_models() -> list[str]:
    """One line for each model of a plug-in that does not load."""
    return MODELS.broken


def describe_model(name: str, *, count: bool = True) -> Row:
    """Everything about one model, by any name that `load_model` takes.

    Args:
        name: of the model.
        count: also build it, with random weights, to count its parameters.

    Returns:
        The row of `list_models`, with weights as a list of dicts (tag, data, num_classes, preprocessing, options,
        timesteps, files with whether each is at hand), the builder's options, and what building it reports.

    Raises:
        UserError: no such model.
    """
    spec = find(name).spec
    row = _row(spec)
    row["weights"] = [_weights(entry) for entry in spec.weights]
    row["options"] = {name: option.help for name, option in spec.options.items()}
    if count:
        model = outline(name).build()
        row["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        row["built"] = {key: value for key, value in model.provenance.items() if key not in ("sha256", "seed")}
    return row


def _row(spec: ModelSpec) -> Row:
    missing = {entry.tag: entry.missing() for entry in spec.weights}
    return {
        "name": spec.name,
        "family": spec.family,
        "description": spec.description,
        "timesteps": _timesteps(spec),
        "baseline": spec.baseline,
        "counterpart": spec.counterpart,
        "weights": [*missing, RANDOM],
        "at_hand": [*(tag for tag, files in missing.items() if not files), RANDOM],
        "needs": {tag: files for tag, files in missing.items() if files},
    }


def _timesteps(spec: ModelSpec) -> int:
    """T of a run that names neither weights nor timesteps: that of the first weights at hand."""
    first = next((entry for entry in spec.weights if not entry.missing()), spec.weights[0])
    return spec.timesteps if first.timesteps is None else first.timesteps


def _weights(entry: Weights) -> Row:
    preprocessing = entry.preprocessing
    return {
        "tag": entry.tag,
        "description": entry.description,
        "data": entry.data,
        "num_classes": entry.num_classes,
        "preprocessing": {
            "size": list(preprocessing.size),
            "resize": preprocessing.resize,
            "interpolation": preprocessing.interpolation,
            "squash": preprocessing.squash,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
        },
        "options": dict(entry.options),
        "timesteps": entry.timesteps,  # None for the model's
        "files": [
            {"role": role, "at_hand": source.at_hand(), "where": source.describe()}
            for role, source in entry.sources.items()
            if not isinstance(source, Unusable)
        ],
    }
