"""What the cells of a model say about it besides its answers: what a timestep costs, what its update is made of."""

from collections.abc import Callable
from typing import Any

import torch

from pcbench.harness.cost import costs_of
from pcbench.harness.evaluate import to_batch
from pcbench.harness.images import Images
from pcbench.harness.plan import Plan, Subject
from pcbench.keys import Condition
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.dynamics import term_shares

TERM_IMAGES = 4


def describe(
    plan: Plan, index: int, timesteps: int, images: Images, device: torch.device, notice: Callable[[str], None]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is known of a model before it is asked.

    Args:
        plan: of the run.
        index: of the model.
        timesteps: T.
        images: of the run.
        device: of the models.
        notice: is told what could not be had, e.g. the cost of a model that the counter does not understand.

    Returns:
        For the provenance of each cell: family, num_classes, has_dynamics, provenance, gmacs (of one answer at each t)
        and gmacs_unrolled (of all answers at 0..t). And the rows of `term_shares` on the first clean images; none for a
        network without such terms.
    """
    subject = plan.subjects[index]
    found = subject.described()
    size = (3, *subject.geometry.size)
    try:
        alone, together = costs_of(subject.model, timesteps, size, plan.dtype)
        found |= {"gmacs": _short(alone), "gmacs_unrolled": _short(together)}
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:  # users' own models
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        notice(f"the cost of {subject.label} is not known: {reason}")
    return found, _terms(plan, subject, timesteps, images, device)


def _terms(plan: Plan, subject: Subject, timesteps: int, images: Images, device: torch.device) -> list[dict[str, Any]]:
    model = subject.model
    if not isinstance(model, PredictiveClassifier) or timesteps == 0 or not images.has_clean:
        return []
    clean = Condition("clean", "clean", "clean", 0.0)
    source, _ = images.source(clean, subject.geometry)
    rows = range(min(TERM_IMAGES, len(images.ids)))
    inputs = (to_batch(source.read([row]), [0], [images.ids[row]], device).images for row in rows)
    with torch.autocast(device.type, plan.dtype, plan.dtype != torch.float32):
        shares = term_shares(model.network, (model.normalise(each) for each in inputs), timesteps)
    shares["images"] = len(rows)
    return [
        {str(name): float(f"{value:.6g}") if isinstance(value, float) else value for name, value in row.items()}
        for row in shares.to_dict("records")
    ]


def _short(values: list[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
