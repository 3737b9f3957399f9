"""What to say where a predictive network lacks nothing but its feedback weights: the command, and how long it takes."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from pcbench.errors import UserError
from pcbench.models.listing import describe_model
from pcbench.training.feedback import levels
from pcbench.training.least_squares import Regression, linear_parts
from pcbench.training.start import structure

IMAGES = 1000


def with_advice(error: UserError, models: Sequence[str], weights: str | None = None) -> UserError:
    """The error of a run, with advice for the first of its models whose feedback weights it misses."""
    for name in models:
        line = feedback_advice(name, weights, str(error))
        if line is not None:
            return UserError(f"{line} ({error})")
    return error


def feedback_advice(name: str, weights: str | None = None, said: str | None = None) -> str | None:
    """The command that makes a model's feedback weights, with an estimate of its time on this machine.

    Args:
        name: of a model, as `load_model`'s.
        weights: a tag; None for the model's first.
        said: a message; advice is only given where it names the missing file. None for any.

    Returns:
        One line; None where the network is not predictive, or lacks something else, or nothing.
    """
    try:
        about: Any = describe_model(name, count=False)
    except UserError:
        return None
    entry: Any = next((entry for entry in about["weights"] if weights in (None, entry["tag"])), {"files": []})
    missing = [file for file in entry["files"] if not file["at_hand"]]
    if about["family"] != "predictive" or [file["role"] for file in missing] != ["feedback"]:
        return None
    if said is not None and missing[0]["where"] not in said:
        return None
    command = f"pcbench train feedback --model '{name}' --weights {entry['tag']} --data IMAGES --install"
    return f"{name} lacks only its feedback weights: `{command}` makes them{_how_long(name, entry['tag'])}"


def _how_long(name: str, tag: str) -> str:
    """The end of the line: the time from IMAGES images, or that least squares do not apply."""
    model = structure(name, tag)
    predictors = [pcoder.get_submodule("predictor") for pcoder in model.network.pcoders]
    images = torch.zeros(1, *model.input_size)
    begun = time.monotonic()
    found = levels(model, images)
    forward = time.monotonic() - begun
    try:
        parts = [linear_parts(predictor, n) for n, predictor in enumerate(predictors, start=1)]
    except UserError:
        return ", with --method gradient added"
    regressions = [Regression(part, found[n + 1], found[n]) for n, part in enumerate(parts)]
    work = sum(regression.operations(IMAGES) for regression in regressions)
    minutes = (IMAGES * forward + work / _speed()) / 60
    size = max(regression.solved_bytes for regression in regressions)
    size += sum(regression.gathered_bytes for regression in regressions)
    about = "a minute" if minutes < 1.5 else f"{minutes:.0f} minutes"
    return f", in about {about} on this machine from {IMAGES:,} images, with {max(size / 1e9, 0.1):.1f} GB of memory"


def _speed(side: int = 768) -> float:
    """Floating-point operations a second in products of float64 matrices."""
    a = torch.ones(side, side, dtype=torch.float64)
    torch.mm(a, a)
    begun = time.monotonic()
    for _ in range(3):
        torch.mm(a, a)
    return 3 * 2 * side**3 / max(time.monotonic() - begun, 1e-9)
