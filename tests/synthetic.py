"""Run directories with known effects, in the form that `pcbench run` writes: what the analysis is tested on."""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from pcbench.results.schema import ACCURACY_COLUMNS, CELL_COLUMNS, CellInfo, DataInfo, ModelInfo, RunInfo, SuiteInfo
from pcbench.results.store import cell_file

from pcbench.intervals import wilson

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


@dataclass
class Model:
    """A model whose accuracy at a condition's strength and timestep is known."""

    name: str
    timesteps: int = 0
    baseline: str | None = None
    gain: Callable[[str, int], float] = lambda perturbation, t: 0.0  # accuracy at t, minus that at t = 0
    level: float = 0.8
    provenance: dict[str, object] = field(default_factory=dict)


def records_of(
    model: Model, condition: tuple[str, str, float], images: Sequence[str], labels: np.ndarray, suite: str, seed: int
) -> pd.DataFrame:
    """One cell: the hardest images fail first, so that answers are correlated over conditions and timesteps."""
    perturbation, group, severity = condition
    n = len(images)
    hardness = np.random.default_rng([seed, 1]).permutation(n) / n
    stream = np.random.default_rng([seed, *hashlib.sha256(f"{perturbation}{severity}".encode()).digest()[:4]])
    hardness = hardness + stream.normal(0, 0.05, n)
    frames, probabilities = [], np.zeros((n, 10))
    for t in range(model.timesteps + 1):
        accuracy = model.level - 0.1 * severity + (model.gain(perturbation, t) if t else 0.0)
        correct = hardness < accuracy
        prediction = np.where(correct, labels, (labels + 1 + stream.integers(0, 8)) % 10)
        confidence = np.clip(0.55 + 0.4 * np.abs(accuracy - hardness), 0, 0.99)
        row = np.full((n, 10), 0.0) + ((1 - confidence) / 9)[:, None]
        row[np.arange(n), prediction] = confidence
        probabilities += row
        frames.append(
            pd.DataFrame(
                {
                    "model": model.name,
                    "weights": "synthetic",
                    "data": "made",
                    "suite": suite,
                    "perturbation": perturbation,
                    "group": group,
                    "severity": severity,
                    "image": list(images),
                    "label": labels,
                    "timestep": t,
                    "prediction": prediction,
                    "confidence": confidence.astype(np.float32),
                    "correct": correct,
                    "nll": -np.log(row[np.arange(n), labels]).astype(np.float32),
                    "prediction_cumulative": probabilities.argmax(axis=1),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def accuracy_of(records: pd.DataFrame) -> pd.DataFrame:
    """accuracy.csv of records."""
    grouped = records.groupby([*CELL_COLUMNS, "timestep"], sort=False)["correct"]
    table = grouped.agg(n="size", correct="sum").reset_index()
    table["accuracy"] = table["correct"] / table["n"]
    table["ci_low"], table["ci_high"] = wilson(table["correct"], table["n"])
    return table[ACCURACY_COLUMNS]


def make_run(
    directory: Path,
    models: Sequence[Model],
    suites: dict[str, Conditions],
    n: int = 40,
    seed: int = 0,
    *,
    status: str = "complete",
    fingerprint: str | None = None,
    leave_out: int = 0,
    arguments: dict[str, object] | None = None,
) -> Path:
    """Write a run directory; `leave_out` cells at the end are missing, as in a run that was interrupted."""
    images = [f"img{i:05d}" for i in range(n)]
    labels = np.random.default_rng([seed, 0]).integers(0, 10, n)
    (directory / "records").mkdir(parents=True)
    cells: dict[str, CellInfo] = {}
    frames = []
    plan = [
        (model, suite, condition)
        for suite, conditions in suites.items()
        for condition, model in itertools.product(conditions, models)
    ]
    for model, suite, condition in plan[: len(plan) - leave_out]:
        frame = records_of(model, condition, images, labels, suite, seed)
        key = f"{model.name} {suite} {condition[0]} {condition[2]:g}"
        file = cell_file(key)
        path = directory / file
        frame.to_parquet(path, index=False)
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        seconds = {"model": 0.01 * n * (1 + model.timesteps), "perturbation": 0.002 * n}
        cells[key] = CellInfo(file=file, sha256=checksum, rows=len(frame), seconds=seconds)
        frames.append(frame)
    info = RunInfo(
        status=status,
        arguments={
            "model": [model.name for model in models],
            "suite": list(suites),
            "data": "made",
            "timesteps": max(model.timesteps for model in models),
            "seed": seed,
            **(arguments or {}),
        },
        models=[
            ModelInfo(
                name=model.name,
                weights="synthetic",
                family="predictive" if model.timesteps else "feedforward",
                baseline=model.baseline,
                timesteps=model.timesteps,
                num_classes=10,
                has_dynamics=model.timesteps > 0,
                provenance=model.provenance,
            )
            for model in models
        ],
        data=DataInfo(name="made", fingerprint=fingerprint or f"made-{n}-{seed}", n=n),
        suites=[SuiteInfo(name=suite, version=1) for suite in suites],
        seed=seed,
        device="cpu",
        dtype="float32",
        packages={"pcbench": "0.1.0"},
        git={},
        cells=cells,
        created="2026-01-01T00:00:00Z",
        finished="2026-01-01T00:01:00Z" if status == "complete" else None,
    )
    (directory / "run.json").write_text(info.model_dump_json(indent=2))
    accuracy_of(pd.concat(frames, ignore_index=True)).to_csv(directory / "accuracy.csv", index=False)
    return directory


def standard_models(timesteps: int = 4) -> list[Model]:
    """A network that gets better under noise and worse under blur over time, and its feedforward baseline."""

    def gain(perturbation: str, t: int) -> float:
        sign = -1 if "blur" in perturbation else 1
        return sign * 0.03 * t

    return [Model("dynamic", timesteps, "static", gain), Model("static")]
