"""Corruption errors of a comparison: mCE against AlexNet's, and errors in percent of the other system's."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from pcbench.analysis.alexnet import BENCHMARK
from pcbench.analysis.alexnet import ERRORS as ALEXNET
from pcbench.analysis.answers import Answers
from pcbench.analysis.families import OfImages, family
from pcbench.analysis.images import of_conditions
from pcbench.analysis.means import Estimate
from pcbench.analysis.means import accuracy as mean_accuracy
from pcbench.analysis.paired import paired
from pcbench.analysis.ratios import mce_weights, ratio

Outcomes = npt.NDArray[np.bool_]


def corruption_errors(
    found: Answers,
    steps: Sequence[int],
    first: Outcomes,
    second: Outcomes,
    tested: npt.NDArray[np.bool_],
) -> pd.DataFrame:
    """Corruption errors at each timestep, with intervals over images, where the suite has severities 1-5.

    Args:
        found: answers of what is asked about.
        steps: the timesteps.
        first: its outcomes, conditions x timesteps x images.
        second: those of what it is compared with.
        tested: the timesteps at which something is asked.

    Returns:
        Rows: measure, timestep, value, low, high, p, p_corrected. Measures: "mCE" (percent of AlexNet's, mean of 15
        CEs; only of ImageNet-C), "mCE difference" (from the other system), "ratio of means" and "mean of ratios"
        (errors in percent of the other's). low and high are marginal; p: of no difference (100 % for the ratios),
        p_corrected over the timesteps at which something is asked.
    """
    if why_no_errors(found):
        return pd.DataFrame()
    parts = []

    def add(measure: str, estimate: Estimate, p: npt.NDArray[np.float64] | None, tests: OfImages | None) -> None:
        part = pd.DataFrame({"measure": measure, "timestep": steps, "value": estimate.value})
        part = part.assign(low=estimate.low, high=estimate.high, p=np.nan, p_corrected=np.nan)
        if p is not None and tests is not None and tests.size:
            part["p"] = np.where(tested, p, np.nan)
            part.loc[tested, "p_corrected"] = family(f"{measure} x {tested.sum()} timesteps", [[tests]]).p(p[tested])
        parts.append(part)

    if not why_no_mce(found):
        conditions = list(zip(found.conditions["perturbation"], found.conditions["severity"], strict=True))
        weights, scale = mce_weights(conditions, ALEXNET, BENCHMARK)
        difference = paired(~first, ~second, weights)
        add("mCE", mean_accuracy(~first, weights) * scale, None, None)
        add("mCE difference", difference.interval() * scale, difference.p(), difference[tested])
    rows = [found.places(name) for name in found.averaged()]
    ours, theirs = (np.stack([of_conditions(~each[own]) for own in rows]) for each in (first, second))
    kinds: tuple[tuple[str, Literal["ratio-of-means", "mean-of-ratios"]], ...] = (
        ("ratio of means", "ratio-of-means"),
        ("mean of ratios", "mean-of-ratios"),
    )
    for measure, how in kinds:
        relative = ratio(ours, theirs, how)
        if not np.isnan(relative.value).any():
            add(measure, relative.interval() * 100, relative.p(), relative[tested])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def why_no_errors(found: Answers) -> str | None:
    """Why a suite has no corruption errors; None when it has."""
    for name in found.averaged():
        severities = sorted(found.conditions.loc[found.conditions["perturbation"] == name, "severity"])
        if severities != [1.0, 2.0, 3.0, 4.0, 5.0]:
            shown = ", ".join(f"{s:g}" for s in severities)
            return f"no corruption errors: {name} has severities {shown}; they take each of 1-5"
    return None


def why_no_mce(found: Answers) -> str | None:
    """Why a suite has no mCE against AlexNet; None when it has."""
    missing = [name for name in BENCHMARK if name not in found.perturbations()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        return f"no mCE: of its {len(BENCHMARK)} corruptions {', '.join(missing[:3])}{more} are missing"
    if found.classes != 1000 or any(key.params.get("variant") == "cifar-c" for key in found.keys):
        return f"no mCE against AlexNet: its errors are of ImageNet-C, not of {found.system.data.name}"
    return why_no_errors(found)
