"""What several papers' figures share: answers of models with dynamics, errors, and what stands above a figure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pcbench.analysis.answers import Answers, every
from pcbench.analysis.comparison import scope_of
from pcbench.figures import style
from pcbench.results.study import Study

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Published:
    """What the figure of the paper has, where it is known.

    Attributes:
        perturbations: how many; 0 where that is no matter.
        timesteps: T; 0 where that is no matter.
        images: how many; 0 where it is not known.
    """

    perturbations: int = 0
    timesteps: int = 0
    images: int = 0


def dynamic(study: Study, suites: Sequence[str]) -> list[tuple[str, Answers]]:
    """(label, answers) of each system with dynamics, in the first of these suites that the study has.

    Every system is there, each under a label of its own, which names its weights; its images and T where others of the
    figure have other ones.
    """
    there = study.suite_names()
    for suite in suites:
        if suite in there:
            found = [answers for answers in every(study, suites=[suite])[suite] if len(answers.timesteps) > 1]
            if found:
                return [(_label(answers, found), answers) for answers in found]
    return []


def _label(answers: Answers, among: Sequence[Answers]) -> str:
    images = {other.on_what for other in among}
    last = {other.timesteps[-1] for other in among}
    marks = [answers.on_what] * (len(images) > 1) + [f"T = {answers.timesteps[-1]}"] * (len(last) > 1)
    return ", ".join([style.named(answers.full), *marks])


def shown(systems: Sequence[tuple[str, Answers]], published: Published) -> list[str]:
    """What a figure shows and how that differs from the published one: lines for `style.about`."""
    found = [answers for _, answers in systems]
    lines = list(dict.fromkeys(scope_of(answers) for answers in found))
    last = sorted({answers.timesteps[-1] for answers in found})
    counts = sorted({len(answers.averaged()) for answers in found})
    n = sorted({answers.values.shape[1] for answers in found})
    other = []
    if published.perturbations and counts != [published.perturbations]:
        other.append(f"{published.perturbations} perturbations")
    if published.timesteps and last != [published.timesteps]:
        other.append(f"T = {published.timesteps}")
    if published.images and n != [published.images]:
        other.append(f"{published.images:,} images")
    lines.append(f"T = {', '.join(map(str, last))}" + (f"; published: {', '.join(other)}" if other else ""))
    return lines


def wrong(answers: Answers) -> Floats:
    """(P, T + 1, I): each image's error under each averaged perturbation, its mean over severities."""
    return np.stack([1 - answers.of(name).mean(axis=0, dtype=float).T for name in answers.averaged()])
