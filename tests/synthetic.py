"""Results directories with known effects, in the form that `pcbench run` writes: what the analysis is tested on."""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pcbench.analysis.derived import tables, to_csv
from pcbench.keys import CellKey, Condition, DataKey, ModelKey, digest_of
from pcbench.results.cell import Answers
from pcbench.results.directory import Directory
from pcbench.results.requests import AskedSuite, Request, Status
from pcbench.results.study import load_results

CORRUPTIONS = {
    "noise": ["gaussian_noise", "shot_noise", "impulse_noise"],
    "blur": ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur"],
    "weather": ["snow", "frost", "fog", "brightness"],
    "digital": ["contrast", "elastic_transform", "pixelate", "jpeg_compression"],
}
Conditions = list[tuple[str, str, float]]


def imagenet_c(names: Sequence[str] | None = None, severities: Sequence[int] = (1, 2, 3, 4, 5)) -> Conditions:
    """(perturbation, group, severity) of ImageNet-C, or of some of its corruptions."""
    pairs = [(name, group) for group, members in CORRUPTIONS.items() for name in members]
    return [(name, group, float(s)) for name, group in pairs if names is None or name in names for s in severities]


def gaussian_noise() -> Conditions:
    return [("gaussian-noise", "noise", sigma) for sigma in (0.0, 0.25, 0.5, 0.75, 1.0, 2.0)]


def condition_of(one: tuple[str, str, float]) -> Condition:
    name, group, severity = one
    kind = {"clean": "clean", "attack": "attack"}.get(group, "noise" if name.startswith("gaussian-n") else "corruption")
    return Condition(kind, name, group, severity)


@dataclass
class Model:
    """A model whose accuracy at a condition's strength and timestep is known."""

    name: str
    timesteps: int = 0
    baseline: str | None = None
    gain: Callable[[str, int], float] = lambda perturbation, t: 0.0  # accuracy at t, minus that at t = 0
    level: float = 0.8
    provenance: dict[str, object] = field(default_factory=dict)
    weights: str = "synthetic"
    classes: int = 10

    @property
    def key(self) -> ModelKey:
        baseline = None
        if self.baseline is not None:
            baseline = ModelKey(self.baseline, self.weights, {}, digest_of([self.baseline, self.weights]))
        return ModelKey(self.name, self.weights, {}, digest_of([self.name, self.weights]), "", baseline)


def answers_of(
    model: Model, condition: tuple[str, str, float], images: Sequence[str], labels: np.ndarray, seed: int
) -> Answers:
    """One cell: the hardest images fail first, so that answers are correlated over conditions and timesteps."""
    perturbation, _, severity = condition
    n = len(images)
    hardness = np.random.default_rng([seed, 1]).permutation(n) / n
    stream = np.random.default_rng([seed, *hashlib.sha256(f"{perturbation}{severity}".encode()).digest()[:4]])
    hardness = hardness + stream.normal(0, 0.05, n)
    probabilities = np.zeros((n, 10))
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("prediction", "confidence", "nll", "prediction_cumulative")
    }
    for t in range(model.timesteps + 1):
        accuracy = model.level - 0.1 * severity + (model.gain(perturbation, t) if t else 0.0)
        correct = hardness < accuracy
        prediction = np.where(correct, labels, (labels + 1 + stream.integers(0, 8)) % 10)
        confidence = np.clip(0.55 + 0.4 * np.abs(accuracy - hardness), 0, 0.99)
        row = np.full((n, 10), 0.0) + ((1 - confidence) / 9)[:, None]
        row[np.arange(n), prediction] = confidence
        probabilities += row
        columns["prediction"].append(prediction.astype(np.int32))
        columns["confidence"].append(confidence.astype(np.float32))
        columns["nll"].append(-np.log(row[np.arange(n), labels]).astype(np.float32))
        columns["prediction_cumulative"].append(probabilities.argmax(axis=1).astype(np.int32))
    return Answers(images, labels, {name: np.stack(parts) for name, parts in columns.items()})


def make_run(
    directory: Path,
    models: Sequence[Model],
    suites: dict[str, Conditions],
    n: int = 40,
    seed: int = 0,
    *,
    status: Status = "complete",
    fingerprint: str | None = None,
    leave_out: int = 0,
    dtype: str = "float32",
    data: str = "made",
) -> Path:
    """Write a results directory; `leave_out` cells at the end are missing, as in a run that was interrupted."""
    images = [f"img{i:05d}" for i in range(n)]
    labels = np.random.default_rng([seed, 0]).integers(0, 10, n)
    of_data = DataKey(data, fingerprint or digest_of(["made", n, seed]), n)
    plan = [
        (model, suite, condition)
        for suite, conditions in suites.items()
        for condition, model in itertools.product(conditions, models)
    ]
    asked: dict[str, list[str]] = {suite: [] for suite in suites}
    with Directory(directory) as target:
        for number, (model, suite, condition) in enumerate(plan):
            key = CellKey(model.key, of_data, condition_of(condition), model.timesteps, "predictions", seed, dtype, "2")
            asked[suite].append(key.digest)
            if number >= len(plan) - leave_out:
                continue
            told = {
                "packages": {"pcbench": "0.1.0"},
                "git": {"commit": "a" * 40, "dirty": False},
                "device": "cpu",
                "seconds": {"model": 0.01 * n * (1 + model.timesteps), "perturbation": 0.002 * n},
                "model": {
                    "family": "predictive" if model.timesteps else "feedforward",
                    "num_classes": model.classes,
                    "has_dynamics": model.timesteps > 0,
                    "provenance": model.provenance,
                    "gmacs": [1.0 + t for t in range(model.timesteps + 1)],
                    "gmacs_unrolled": [1.0 + t for t in range(model.timesteps + 1)],
                },
            }
            target.add(key, answers_of(model, condition, images, labels, seed), told, {})
        request = Request(
            asked={"model": [model.name for model in models], "suite": list(suites), "data": data},
            status=status,
            models=[f"{model.name} [{model.weights}]" for model in models],
            data=f"{data}, {n} images",
            suites=[
                AskedSuite(
                    name=suite,
                    version=1,
                    measure="predictions",
                    conditions=[_plain(condition_of(one)) for one in conditions],
                    cells=asked[suite],
                )
                for suite, conditions in suites.items()
            ],
            created="2026-01-01T00:00:00Z",
            finished="2026-01-01T00:01:00Z" if status == "complete" else None,
        )
        target.record(request, lambda kept: None)
        for name, table in tables(load_results(directory)).items():
            target.write(name, to_csv(table))
    return directory


def _plain(condition: Condition) -> dict[str, object]:
    import json

    found: dict[str, object] = json.loads(condition.text)
    return found


def standard_models(timesteps: int = 4, weights: str = "synthetic", classes: int = 10) -> list[Model]:
    """A network that gets better under noise and worse under blur over time, and its feedforward baseline."""

    def gain(perturbation: str, t: int) -> float:
        sign = -1 if "blur" in perturbation else 1
        return sign * 0.03 * t

    return [
        Model("dynamic", timesteps, "static", gain, weights=weights, classes=classes),
        Model("static", weights=weights, classes=classes),
    ]
