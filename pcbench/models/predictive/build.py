"""Predictive networks as registered models: any feedforward model, a configuration, and perhaps feedback weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from pcbench.errors import UserError, did_you_mean
from pcbench.models.base import FeedforwardClassifier, Preprocessing, TemporalClassifier
from pcbench.models.checkpoints import configuration_hash, load_feedback
from pcbench.models.options import Json, Option, by_content, existing_file, numbers, one_of, whole
from pcbench.models.own import initialised
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.config import Hyperparameters, PredictiveConfig, Scaling
from pcbench.models.predictive.network import PredictiveNet
from pcbench.models.sources import sha256
from pcbench.models.spec import ModelSpec, Weights, WeightSource

Dynamics = Literal["full", "no-error", "no-feedback", "memory-only"]

OPTIONS: Mapping[str, Option] = {
    "dynamics": Option(
        "full, or an ablation: no-error (pc = 0), no-feedback (feedback = 0), memory-only (both 0)",
        one_of(*get_args(Dynamics)),
    ),
    "feedforward": Option("weight of the drive from below: a number, or one per PCoder with commas", numbers),
    "feedback": Option("weight of the prediction from above, likewise", numbers),
    "pc": Option("weight of the error gradient, likewise", numbers),
    "scaling": Option("of the error gradient: none or kc", one_of(*get_args(Scaling))),
    "init_noise": Option("start from noise instead of the feedforward pass: the seed of the noise", whole),
    "feedback_weights": Option(
        "file of feedback weights for this very configuration, in the place of the tag's", existing_file, by_content
    ),
}

# The values that the published experiments ran with; the published configuration files differ.
PUBLISHED: Mapping[str, object] = {"feedforward": 0.8, "feedback": 0.1, "pc": 0.01, "scaling": "none"}

TUNED = "hyperparameters tuned on images with noise"  # of a tag, in its description

Configure = Callable[[nn.Module, Preprocessing, Mapping[str, Json]], PredictiveConfig]
"""(backbone, preprocessing, options) -> the configuration to predify the backbone with."""


def predictive_weights(base: Weights, feedback: WeightSource, options: Mapping[str, object] | None = None) -> Weights:
    """Weights of a predictive network: those of its backbone, and a file of feedback weights.

    Args:
        base: weights of the feedforward model, with at most one file.
        feedback: file with "pcoders.I.predictor.*" and perhaps "pcoders.I.C_sqrt".
        options: hyperparameters that go with these weights, by the names of OPTIONS.
    """
    sources = dict(zip(["backbone"], base.sources.values(), strict=False))  # a random network has none
    return replace(
        base,
        sources={**sources, "feedback": feedback},
        options={**base.options, **(options or {})},
        description=f"backbone: {base.description or base.tag}",
        baseline=base.tag,
    )


def with_values(
    weights: Weights, tag: str, description: str, values: Mapping[str, object], timesteps: int | None = None
) -> Weights:
    """The same files under another tag, with other hyperparameters.

    Args:
        weights: of a predictive network.
        tag: of the result.
        description: of the values, one line.
        values: by the names of OPTIONS; they take the place of those of `weights`.
        timesteps: default T that goes with the values.
    """
    options = {**weights.options, **values}
    about = f"{weights.description}; {description}"
    return replace(weights, tag=tag, options=options, description=about, timesteps=timesteps)


def predictive_spec(
    name: str,
    description: str,
    base: ModelSpec,
    configure: Configure,
    weights: tuple[Weights, ...],
    timesteps: int,
    options: Mapping[str, Option] | None = None,
) -> ModelSpec:
    """A predictive model over a feedforward one.

    Args:
        name: see ModelSpec.
        description: see ModelSpec.
        base: the feedforward model, which is also the baseline.
        configure: gives the configuration.
        weights: as `predictive_weights` makes them.
        timesteps: see ModelSpec.
        options: further options that `configure` understands.
    """

    def build(spec: ModelSpec, weights: Weights, options: Mapping[str, Json], seed: int) -> TemporalClassifier:
        role = next((role for entry in base.weights for role in entry.sources), "network")
        sources = {role: weights.sources["backbone"]} if "backbone" in weights.sources else {}
        backbone = base.build(base, replace(weights, sources=sources), {}, seed)
        if not isinstance(backbone, FeedforwardClassifier):
            raise UserError(f"{base.name} has dynamics of its own; only a feedforward network can be made predictive")
        config = configure(backbone.network, weights.preprocessing, options)
        network = initialised(lambda: PredictiveNet(backbone.network, config), seed)
        checksums = {"backbone": sha256(weights.sources["backbone"].path())} if sources else {}
        identity = configuration_hash(config.structure())
        given = options.get("feedback_weights")
        if given is not None or "feedback" in weights.sources:
            path = weights.sources["feedback"].path() if given is None else Path(str(given))
            load_feedback(network, path, architecture=name, configuration=identity)
            checksums["feedback"] = sha256(path)
        dynamics = apply_options(network, {**weights.options, **options})
        model = PredictiveClassifier(network, backbone.num_classes, weights.preprocessing, spec.timesteps)
        model.provenance = {
            "sha256": checksums,
            "seed": seed,
            "configuration": identity,
            "modules": [pcoder.module for pcoder in config.pcoders],
            "dynamics": dynamics,
            "scaling": network.scaling,
            "hyperparameters": [values.values() for values in network.hyperparameters],
            "init_noise": network.initial_noise,
        }
        return model

    return ModelSpec(
        name=name,
        family="predictive",
        description=description,
        build=build,
        weights=weights,
        timesteps=timesteps,
        baseline=base.name,
        options={**OPTIONS, **(options or {})},
        source=base.source,
    )


def apply_options(network: PredictiveNet, options: Mapping[str, object]) -> Dynamics:
    """Set a network's hyperparameters, scaling and initial state as options say; returns the ablation in force.

    Explicit values come first, then the ablation takes away. What feedback does not take is left to memory. A static
    image under "memory-only" changes nothing, bit for bit.

    Args:
        network: changed in place.
        options: by the names of OPTIONS; others are ignored. Values may be text, as they come from a command line.

    Raises:
        UserError: a value that cannot be.
    """
    current = network.hyperparameters
    columns: dict[str, Sequence[float]] = {}
    for term in ("feedforward", "feedback", "pc"):
        given = options.get(term)
        existing = [values.values()[term] for values in current]
        columns[term] = existing if given is None else _numbers(term, given, len(current))
    dynamics = _choice("dynamics", options.get("dynamics", "full"), get_args(Dynamics))
    nothing = [0.0] * len(current)
    if dynamics in ("no-error", "memory-only"):
        columns["pc"] = nothing
    if dynamics in ("no-feedback", "memory-only"):
        columns["feedback"] = nothing
    rows = zip(columns["feedforward"], columns["feedback"], columns["pc"], strict=True)
    network.hyperparameters = [Hyperparameters(b, feedback, a) for b, feedback, a in rows]
    scaling = _choice("scaling", options.get("scaling", network.scaling), get_args(Scaling))
    network.scaling = "kc" if scaling == "kc" else "none"
    noise = options.get("init_noise")
    if noise is not None:
        try:
            network.initial_noise = int(str(noise))
        except ValueError:
            raise UserError(f"init_noise is {noise!r}; it is the seed of the initial state, a whole number") from None
    return next(known for known in get_args(Dynamics) if known == dynamics)


def _numbers(name: str, given: object, count: int) -> list[float]:
    """One number per PCoder, from a number, a list, or text with commas."""
    parts = str(given).split(",") if isinstance(given, str | int | float) else given
    try:
        numbers = [float(part) for part in parts]  # type: ignore[attr-defined]  # what is no sequence raises below
    except (TypeError, ValueError):
        raise UserError(f"{name} is {given!r}; it is a number, or one per PCoder with commas: 0.2,0.4") from None
    if len(numbers) == 1:
        return numbers * count
    if len(numbers) != count:
        raise UserError(f"{name} has {len(numbers)} values for {count} PCoders; give one, or one each")
    return numbers


def _choice(name: str, given: object, known: Sequence[str]) -> str:
    if given not in known:
        raise UserError(f"{name} is {given!r}; {did_you_mean(str(given), known)}")
    return str(given)


def feedback_file_name(model: str, tag: str, configuration: str = "") -> str:
    """Name of a file of feedback weights in the user's folder of weights.

    Args:
        model: name of the predictive network.
        tag: of the weights.
        configuration: hash of a configuration of the user's own.

    >>> feedback_file_name("predify:timm:resnet18", "a1_in1k")
    'predify-timm-resnet18-a1_in1k.safetensors'
    """
    ending = f"-{configuration[:12]}" if configuration else ""
    return f"{model}-{tag}{ending}.safetensors".replace(":", "-").replace("/", "-")


def shipped_configuration(name: str) -> Path:
    """Path of a configuration file that this package ships: "pvgg16"."""
    return Path(__file__).parent / "configurations" / f"{name}.toml"
