"""Measures of robustness and of dynamics: pure functions over tidy tables.

`accuracy` below is a table with the columns of accuracy.csv, `records` one with the columns of records/*.parquet
(`pcbench.results.schema`); functions of a table expect one model, weights and data, and say so where it matters.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.integrate import trapezoid

from pcbench.analysis.alexnet import BENCHMARK, CLEAN_ERROR
from pcbench.analysis.alexnet import ERRORS as ALEXNET
from pcbench.analysis.answers import Answers, answers
from pcbench.errors import UserError
from pcbench.results.study import Study

Errors = Mapping[str, Sequence[float]]
Reference = Literal["alexnet"] | Errors
SEVERITIES = (1.0, 2.0, 3.0, 4.0, 5.0)
CONDITION = ["suite", "perturbation", "group", "severity"]


# --- corruption errors ------------------------------------------------------------------------------------------


def error_rates(accuracy: pd.DataFrame, timestep: int) -> dict[str, list[float]]:
    """Corruption -> error rates at severities 1-5, at one timestep: what `mce` takes.

    Args:
        accuracy: of one model; rows whose severities are not 1-5 (clean, noise, attacks) are left out.
        timestep: which t. A feedforward network, recorded at t = 0 only, has the same answer at every t.

    Raises:
        UserError: no corruption in the table, a severity missing, or one that is there twice.

    >>> table = pd.DataFrame({"perturbation": ["fog"] * 5, "severity": [1, 2, 3, 4, 5], "timestep": 0,
    ...                       "accuracy": [0.9, 0.8, 0.7, 0.6, 0.5]})
    >>> [round(error, 2) for error in error_rates(table, 0)["fog"]]
    [0.1, 0.2, 0.3, 0.4, 0.5]
    """
    known = sorted(accuracy["timestep"].unique())
    step = 0 if known == [0] else timestep
    rows = accuracy[(accuracy["timestep"] == step) & accuracy["severity"].isin(SEVERITIES)]
    if rows.empty:
        raise UserError(f"there are no corruptions of severity 1-5 at t = {timestep}; timesteps: {known}")
    errors = {}
    for name, part in rows.groupby("perturbation", sort=False, observed=True):
        by_severity = part.sort_values("severity")
        found = [float(s) for s in by_severity["severity"]]
        if found != list(SEVERITIES):
            raise UserError(f"{name} has severities {_list(found)}; a corruption error takes each of 1-5 once")
        errors[str(name)] = [1 - float(a) for a in by_severity["accuracy"]]
    return errors


def corruption_errors(errors: Errors, reference: Reference = "alexnet") -> dict[str, float]:
    """CE of each corruption: 100 x sum over severities of its errors / the same sum of the reference, in percent.

    Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), section 4.2.

    Raises:
        UserError: a corruption that the reference lacks, or that does not have five errors in [0, 1].

    >>> {name: round(ce, 2) for name, ce in corruption_errors({"fog": [0.4, 0.4, 0.4, 0.4, 0.4]}).items()}
    {'fog': 48.82}
    """
    known = _reference(reference)
    result = {}
    for name, values in errors.items():
        if name not in known:
            raise UserError(f"the reference has no errors for {name}; it has {_list(known)}")
        result[name] = 100 * _sum(name, values) / _sum(f"{name} of the reference", known[name])
    return result


def mce(errors: Errors, reference: Reference = "alexnet") -> float:
    """Mean corruption error over ImageNet-C's fifteen corruptions, in percent: the mean of their CEs.

    Args:
        errors: corruption -> five error rates in [0, 1], severities 1-5 in order. The four extra corruptions, where
            there, do not enter; for the network's own t = 0 or a set other than ImageNet-C, see `relative_to`.
        reference: "alexnet" (the published table), or another mapping of the same form.

    Returns:
        Percent: 100 for AlexNet itself, 76.7 for the original ResNet-50.

    Raises:
        UserError: a corruption or severity is missing. What is left is not averaged: that would be another measure.

    >>> mce(ALEXNET)
    100.0
    >>> mce({"fog": [0.5] * 5})
    Traceback (most recent call last):
        ...
    pcbench.errors.UserError: mCE needs all fifteen corruptions of ImageNet-C; missing: gaussian_noise, ...
    """
    _complete(errors)
    ces = corruption_errors({name: errors[name] for name in BENCHMARK}, reference)
    return float(np.mean(list(ces.values())))


def relative_mce(
    errors: Errors,
    clean_error: float,
    reference: Reference = "alexnet",
    reference_clean_error: float = CLEAN_ERROR,
) -> float:
    """Relative mCE, in percent: as mCE, of the errors beyond the clean error (5 x it subtracted above and below).

    Args:
        errors: as of `mce`.
        clean_error: of the model, in [0, 1].
        reference: as of `mce`.
        reference_clean_error: of the reference; by default AlexNet's.

    >>> round(relative_mce(ALEXNET, CLEAN_ERROR), 6)
    100.0
    """
    _complete(errors)
    known = _reference(reference)
    _complete(known)
    parts = [
        (_sum(name, errors[name]) - 5 * clean_error) / (_sum(name, known[name]) - 5 * reference_clean_error)
        for name in BENCHMARK
    ]
    return 100 * float(np.mean(parts))


def relative_to(errors: Errors, reference: Errors, how: Literal["ratio-of-means", "mean-of-ratios"]) -> float:
    """Error against another table with the same corruptions (own t = 0, a baseline), in percent; 100 where equal.

    Args:
        errors: corruption -> error rates; any corruptions, any number of severities.
        reference: the same corruptions and numbers of severities.
        how: "ratio-of-means" divides the mean error by the reference's mean error, as Predify's paper does (its
            mCE(t) / mCE(0)): hard corruptions weigh most. "mean-of-ratios" is the mean of CEs, as mCE is.

    >>> mine, other = {"fog": [0.2], "snow": [0.6]}, {"fog": [0.4], "snow": [0.6]}
    >>> round(relative_to(mine, other, "ratio-of-means"), 6), round(relative_to(mine, other, "mean-of-ratios"), 6)
    (80.0, 75.0)
    """
    if {name: len(values) for name, values in errors.items()} != {name: len(v) for name, v in reference.items()}:
        raise UserError("the two tables of errors have different corruptions or severities")
    above = np.array([np.mean(errors[name]) for name in errors])
    below = np.array([np.mean(reference[name]) for name in errors])
    if (below == 0).any():
        raise UserError("the reference makes no errors, so nothing can be divided by them")
    ratio = above.mean() / below.mean() if how == "ratio-of-means" else (above / below).mean()
    return 100 * float(ratio)


def _reference(reference: Reference) -> Errors:
    if isinstance(reference, str):
        if reference != "alexnet":
            raise UserError(f"no reference {reference!r}; known: alexnet, or a mapping corruption -> 5 error rates")
        return ALEXNET
    return reference


def _complete(errors: Errors) -> None:
    missing = [name for name in BENCHMARK if name not in errors]
    if missing:
        raise UserError(f"mCE needs all fifteen corruptions of ImageNet-C; missing: {', '.join(missing)}")


def _sum(name: str, values: Sequence[float]) -> float:
    if len(values) != 5:
        raise UserError(f"{name} has {len(values)} error rates; mCE needs one for each of the severities 1-5")
    table = np.asarray(values, dtype=float)
    if not ((table >= 0) & (table <= 1)).all():
        raise UserError(f"{name} has error rates {_list(values)}; they must lie in [0, 1] (1 minus accuracy)")
    return float(table.sum())


def _list(values: Iterable[object]) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)


# --- means over conditions ---------------------------------------------------------------------------------------


def group_means(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of each group of perturbations (noise, blur, ...) and timestep, each perturbation counting once.

    Returns:
        Columns suite, group, timestep, accuracy; the group "all" is the mean over all perturbations.

    >>> table = pd.DataFrame({"suite": "s", "perturbation": ["fog", "fog", "snow"], "group": "weather",
    ...                       "severity": [1, 2, 1], "timestep": 0, "accuracy": [0.4, 0.2, 0.6]})
    >>> print(f"{group_means(table)['accuracy'].iloc[0]:.2f}")
    0.45
    """
    keys = ["suite", "group", "perturbation", "timestep"]
    each = accuracy.groupby(keys, sort=False, observed=True)["accuracy"].mean().reset_index()
    groups = each.groupby(["suite", "group", "timestep"], sort=False, observed=True)["accuracy"].mean().reset_index()
    everything = each.groupby(["suite", "timestep"], sort=False, observed=True)["accuracy"].mean().reset_index()
    return pd.concat([groups, everything.assign(group="all")], ignore_index=True)[
        ["suite", "group", "timestep", "accuracy"]
    ]


# --- confidence --------------------------------------------------------------------------------------------------


def expected_calibration_error(confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15) -> float:
    """ECE in [0, 1]: mean |accuracy - confidence| over equal-width bins of the top label's confidence, weighted.

    Source: Guo et al. 2017 (arXiv 1706.04599), equation 3.

    >>> round(expected_calibration_error([0.9, 0.9, 0.9, 0.9], [1, 1, 1, 0]), 6)
    0.15
    """
    p, hit = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    place = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)  # bin m is ((m - 1) / bins, m / bins]
    gap = np.bincount(place, hit, bins) - np.bincount(place, p, bins)
    return float(np.abs(gap).sum() / len(p))


def confidence_over_time(records: pd.DataFrame) -> pd.DataFrame:
    """ECE (15 bins), mean NLL in nats and mean confidence, for each condition and timestep.

    Returns:
        A row for each condition and timestep: suite, perturbation, group, severity, timestep, accuracy, ece, nll,
        confidence.
    """
    keys = [*CONDITION, "timestep"]
    groups = records.groupby(keys, sort=False, observed=True)
    table = groups.agg(accuracy=("correct", "mean"), nll=("nll", "mean"), confidence=("confidence", "mean"))
    table["ece"] = [expected_calibration_error(part["confidence"], part["correct"]) for _, part in groups]
    return table.reset_index()


# --- dynamics ----------------------------------------------------------------------------------------------------


def dynamics(found: Answers) -> pd.DataFrame:
    """What the answers do over time, for each condition of one model and suite.

    Returns:
        A row for each condition: suite, perturbation, group, severity, and
        - first_correct: mean timestep of the first correct answer, over images that have one;
        - gained, lost: fractions of images that are wrong at t = 0 and correct at T, and the converse;
        - gains, losses: changes from wrong to correct, and back, per image along t = 0..T;
        - oracle: fraction of images that are correct at some t (an upper bound for every readout);
        - area: mean accuracy over t = 0..T (trapezoidal area under accuracy(t), divided by T).
    """
    correct: npt.NDArray[np.bool_] = found.values.astype(bool)
    change = np.diff(correct.astype(np.int8), axis=2)
    ever = np.asarray(correct.any(axis=2))
    first = np.where(ever, correct.argmax(axis=2), 0).sum(axis=1) / np.maximum(ever.sum(axis=1), 1)
    curve = correct.mean(axis=1)
    span = max(correct.shape[2] - 1, 1)
    area = trapezoid(curve, axis=1) / span if curve.shape[1] > 1 else curve[:, 0]
    return found.conditions.assign(
        suite=found.suite,
        first_correct=np.where(ever.any(axis=1), first, np.nan),
        gained=(~correct[:, :, 0] & correct[:, :, -1]).mean(axis=1),
        lost=(correct[:, :, 0] & ~correct[:, :, -1]).mean(axis=1),
        gains=(change == 1).sum(axis=2).mean(axis=1),
        losses=(change == -1).sum(axis=2).mean(axis=1),
        oracle=ever.mean(axis=1),
        area=area,
    )


def readouts(study: Study, threshold: float = 0.9) -> pd.DataFrame:
    """Accuracy of each way of reading one answer from a trajectory, for each condition of one model and suite.

    Args:
        study: cells of one system, with whole records.
        threshold: of the readout "threshold".

    Returns:
        A row for each condition and readout: suite, perturbation, group, severity, readout, accuracy, timestep (the
        mean decision time). Readouts: "last" (t = T); "cumulative" (largest mean probability over t = 0..T);
        "max-confidence" (the t whose answer is most confident, the earliest of equals); "threshold" (the first t with
        confidence >= threshold; where there is none, as max-confidence).
    """
    correct = answers(study)
    hit = correct.values.astype(bool)
    confidence = answers(study, "confidence").values
    label = answers(study, "label").values
    summed = answers(study, "prediction_cumulative").values == label
    last = hit.shape[2] - 1
    surest = confidence.argmax(axis=2)
    crossed = confidence >= threshold
    first = np.where(crossed.any(axis=2), crossed.argmax(axis=2), surest)
    steps = np.asarray(correct.timesteps)
    parts = []
    for name, chosen, answer in (
        ("last", np.full_like(surest, last), hit),
        ("cumulative", np.full_like(surest, last), summed),
        ("max-confidence", surest, hit),
        ("threshold", first, hit),
    ):
        taken = np.take_along_axis(answer, chosen[:, :, None], axis=2)[:, :, 0]
        parts.append(
            correct.conditions.assign(
                suite=correct.suite,
                readout=name,
                accuracy=taken.mean(axis=1),
                timestep=steps[chosen].mean(axis=1),
            )
        )
    return pd.concat(parts, ignore_index=True)[[*CONDITION, "readout", "accuracy", "timestep"]]


# --- cost --------------------------------------------------------------------------------------------------------


def speed_accuracy(
    accuracy: pd.DataFrame,
    images_per_second: float | None = None,
    macs: Sequence[float] | None = None,
    macs_of_run: float | None = None,
) -> pd.DataFrame:
    """Accuracy next to what it costs, for each suite and timestep: the speed-accuracy curve.

    Args:
        accuracy: of one model.
        images_per_second: of the run, which unrolled to the last timestep; the rate when stopping at an earlier t is
            estimated from it by the share of multiply-accumulates, so it takes `macs`.
        macs: for each timestep, the multiply-accumulates of one image's answer at it (`pcbench.analysis.cost`).
        macs_of_run: what the run spent on an image; None for `macs` at the last timestep.

    Returns:
        Columns suite, timestep, accuracy (mean over perturbations), and where known gmacs and images_per_second.
    """
    means = group_means(accuracy)
    table = means[means["group"] == "all"].drop(columns="group").reset_index(drop=True)
    if macs is not None:
        steps = table["timestep"].to_numpy()
        if steps.max() >= len(macs):
            raise UserError(f"costs are given up to t = {len(macs) - 1}, accuracies up to t = {steps.max()}")
        cost = np.asarray(macs, dtype=float)
        table["gmacs"] = cost[steps] / 1e9
        if images_per_second is not None:
            spent = cost[steps.max()] if macs_of_run is None else macs_of_run
            table["images_per_second"] = images_per_second * spent / cost[steps]
    return table
