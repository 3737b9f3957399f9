"""What several papers' figures share: the answers of models with dynamics, and ratios of errors to t = 0."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pcbench.analysis.answers import Answers, every
from pcbench.analysis.statistics import bootstrap
from pcbench.results.study import Study

Floats = npt.NDArray[np.floating]


def dynamic(study: Study, suites: Sequence[str]) -> list[tuple[str, Answers]]:
    """(label, answers) of each system with dynamics, in the first of these suites that the study has.

    Every system is there, each under a label of its own, which names its weights and its images.
    """
    there = study.suite_names()
    for suite in suites:
        if suite in there:
            found = [answers for answers in every(study, suites=[suite])[suite] if len(answers.timesteps) > 1]
            if found:
                return [(f"{answers.full}, {answers.on_what}", answers) for answers in found]
    return []


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
