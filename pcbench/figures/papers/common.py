"""What several papers' figures share: the answers of models with dynamics, and ratios of errors to t = 0."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pcbench.analysis.answers import Answers, every
from pcbench.analysis.statistics import bootstrap
from pcbench.results.load import Run

Floats = npt.NDArray[np.floating]


def dynamic(runs: Sequence[Run], suites: Sequence[str]) -> list[tuple[str, Answers]]:
    """(label, answers) of each model with more than one timestep, in these suites; the first run of a model counts."""
    found: dict[str, Answers] = {}
    for run in runs:
        if run.records.empty:
            continue
        for answers in every(run.records, suites=suites):
            if len(answers.timesteps) > 1:
                found.setdefault(answers.model, answers)
    return list(found.items())


def errors(answers: Answers) -> tuple[Floats, Floats]:
    """Error of each perturbation (mean over severities) and timestep, exact (P, T + 1), and resampled (R, P, T + 1)."""
    correct = [answers.of(name) for name in answers.perturbations()]
    summed = np.stack([each.sum(axis=0) for each in correct], axis=1)
    severities = np.array([len(each) for each in correct], dtype=float)[:, None]
    replicates = bootstrap(summed.reshape(len(summed), -1)).reshape(-1, *summed.shape[1:])
    return 1 - summed.mean(axis=0) / severities, 1 - replicates / severities


def relative(replicates: Floats) -> Floats:
    """Resampled errors (R, T + 1) divided by those at t = 0; NaN, and so no interval, where a resample has none."""
    start = replicates[:, :1]
    return np.asarray(replicates / np.where(start > 0, start, np.nan))
