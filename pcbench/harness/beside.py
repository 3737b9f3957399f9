"""What a run says about its models besides their answers: what a timestep costs, and what its update is made of."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from pcbench.analysis.cost import macs_per_timestep, macs_unrolled
from pcbench.harness.evaluate import to_batch
from pcbench.harness.images import Images
from pcbench.harness.plan import DTYPES, Plan, Subject
from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.dynamics import term_shares
from pcbench.results.store import write_atomically

COSTS, TERMS = "cost.csv", "terms.csv"
TERM_IMAGES = 4


def write_beside(
    plan: Plan, images: Images, device: torch.device, directory: Path, notice: Callable[[str], None]
) -> None:
    """Write cost.csv and, where a model has predictive dynamics, terms.csv, unless they are there.

    cost.csv: model, weights, timestep, gmacs (1e9 multiply-accumulates of one image's answer at t, with all that it
    takes), gmacs_unrolled (of all its answers at 0..t, as the run computed them).
    terms.csv: model, weights, images, and the columns of `term_shares`, on the first clean images of the run.

    Args:
        plan: of the run.
        images: of the run.
        device: of the models.
        directory: of the run.
        notice: is told what could not be had, e.g. the cost of a model that the counter does not understand.

    Raises:
        RunError: the files cannot be written.
    """
    longest = {info.name: info.timesteps for info in plan.model_infos()}
    cast = torch.autocast(device.type, DTYPES[plan.request.dtype], plan.request.dtype != "float32")
    for name, table in ((COSTS, _cost), (TERMS, _terms)):
        if (directory / name).exists():
            continue
        parts = []
        for subject in plan.subjects:
            try:
                with cast:
                    part = table(subject, longest[subject.label], images, device)
            except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:  # users' own models
                notice(f"{subject.label} is not in {name}: {str(error).splitlines()[0] if str(error) else error!r}")
                continue
            if part is not None:
                parts.append(part.assign(model=subject.label, weights=subject.model.weights))
        if parts:
            found = pd.concat(parts, ignore_index=True)
            ordered = found[["model", "weights", *(c for c in found if c not in ("model", "weights"))]]
            write_atomically(directory / name, ordered.to_csv(index=False, float_format="%.6g").encode())


def _cost(subject: Subject, timesteps: int, images: Images, device: torch.device) -> pd.DataFrame:
    model, size = subject.model, (3, *subject.geometry.size)
    alone = together = macs_per_timestep(model, timesteps, size)
    if type(model).last is not TemporalClassifier.last:  # one answer takes less than all before it
        together = macs_unrolled(model, timesteps, size)
    table = pd.DataFrame({"timestep": range(timesteps + 1), "gmacs": alone, "gmacs_unrolled": together})
    return table.assign(gmacs=table["gmacs"] / 1e9, gmacs_unrolled=table["gmacs_unrolled"] / 1e9)


def _terms(subject: Subject, timesteps: int, images: Images, device: torch.device) -> pd.DataFrame | None:
    model = subject.model
    if not isinstance(model, PredictiveClassifier) or timesteps == 0 or not images.has_clean:
        return None
    clean = Condition("clean", "clean", "clean", 0.0)
    source, _ = images.source(clean, subject.geometry)
    rows = range(min(TERM_IMAGES, len(images.ids)))
    inputs = (to_batch(source.read([row]), [0], [images.ids[row]], device).images for row in rows)
    shares = term_shares(model.network, (model.normalise(each) for each in inputs), timesteps)
    return shares.assign(images=len(rows))
