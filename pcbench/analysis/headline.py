"""The headline of a comparison: clean accuracy, the area over strengths that decide, and effective robustness.

A mean over all strengths lets those decide at which every network guesses; and what a network gains under noise it may
have paid for on clean images. These few numbers are the ones that neither can decide: `pcbench.analysis.summaries`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pcbench.analysis.answers import Answers, answers
from pcbench.analysis.comparison import Headline, Measured, Side
from pcbench.analysis.families import family
from pcbench.analysis.images import Floats, of_conditions
from pcbench.analysis.means import accuracy as mean_accuracy
from pcbench.analysis.paired import Paired, paired, stacked
from pcbench.analysis.summaries import (
    AboveChance,
    Excess,
    beyond_frontier,
    effective_robustness,
    weigh_above_chance,
)
from pcbench.analysis.verdicts import SAME, judge
from pcbench.errors import UserError
from pcbench.intervals import LEVEL
from pcbench.results.study import Study, System

CLEAN, AREA, BEYOND = "clean images", "area above chance", "effective robustness"
MATCHED = "against controls of the same clean accuracy"
CONTROLS = ("averaging:", "diffusion:")  # names of networks that do over time what any blur or average does
FEWEST_CONTROLS = 3  # two points have a line through them whatever they are


def clean_answers(study: Study) -> dict[System, Answers]:
    """What each system answered on clean images, whichever suite has them; noise or an attack of strength 0 is none."""
    found: dict[System, Answers] = {}
    for system, part in study.systems().items():
        cells = [cell for cell in part.cells if cell.key.measure == "predictions"]
        clean = [cell for cell in cells if cell.key.condition.group == "clean"]
        clean += [cell for cell in cells if cell.key.condition.severity == 0]
        for cell in clean[:1]:
            try:
                found[system] = answers(replace(part, cells=(cell,)))
            except UserError as error:
                study.note(str(error))
    return found


def headline(
    found: Measured,
    clean: Mapping[System, Answers],
    others: Sequence[Side] = (),
    steps: Sequence[int] | None = None,
    margin: float | None = None,
) -> Headline:
    """The summary of two systems side by side.

    Args:
        found: the two.
        clean: `clean_answers`.
        others: all systems of the suite on the same images: those without dynamics give the line, `CONTROLS` the
            frontier.
        steps: timesteps to sum up; None for the last.
        margin: of equivalence, a fraction of images.

    Returns:
        Rows: measure, timestep, accuracy, reference, difference, low, high (percent, points), p, verdict, conditions.
        Clean accuracy and area are one family of tests: intervals hold together, p-values are corrected. The others
        have marginal intervals, and their reference is what the area is expected to be: "effective robustness" from a
        line through the networks without dynamics; "against controls of the same clean accuracy" from the frontier of
        `CONTROLS`, at all their timesteps.
    """
    asked = [t for t in (found.steps if steps is None else steps) if t in found.steps]
    asked = asked[-1:] if steps is None else asked
    at = [found.steps.index(t) for t in asked]
    tested = found.tested[at]
    notes: list[str] = []
    parts: list[tuple[str, str, Paired, Floats, Floats]] = []
    pair = _clean_pair(found, clean)
    if pair is None:
        notes.append("no clean accuracy: these results have no clean images of both systems")
    else:
        first, second = (each[None][:, at if each.shape[0] > 1 else [0] * len(at)] for each in pair)
        where = f"n = {first.shape[-1]:,}"
        ours, theirs = (mean_accuracy(x).value for x in (first, second))
        parts.append((CLEAN, where, paired(first, second), ours, theirs))
    rows = _perturbed(found.system.answers)
    weights = _weights(found, rows, notes) if len(rows) else None
    if weights is not None:
        first, second = (each[rows][:, at] for each in (found.first, found.second))
        where = _kept(found, rows, weights)
        ours, theirs = (of_conditions(x, weights.weights).mean(axis=-1) for x in (first, second))
        parts.append((AREA, where, paired(first, second, weights.weights), ours, theirs))
    table = _table(parts, asked, tested, margin, notes)
    beyond = _beyond(found, clean, others, rows, weights, pair, asked, notes) if weights is not None else []
    return Headline(pd.concat([table, pd.DataFrame(beyond)], ignore_index=True) if beyond else table, notes)


def _table(
    parts: Sequence[tuple[str, str, Paired, Floats, Floats]],
    steps: Sequence[int],
    tested: Any,
    margin: float | None,
    notes: list[str],
) -> pd.DataFrame:
    if not parts or not steps:
        return pd.DataFrame()
    together = stacked([differences for _, _, differences, _, _ in parts])
    tests = together[:, tested]
    names = " and ".join(name for name, *_ in parts)
    times = int(tested.sum())
    of_all = family(f"{names} x {times} timestep{'s' if times > 1 else ''}", [[tests]]) if tests.size else None
    if of_all is not None and of_all.size > 1:
        notes.append(f"family of the headline: {of_all}")
    shown = judge(together, of_all, margin)
    rows = []
    for index, (name, where, _, accuracy, reference) in enumerate(parts):
        for place, t in enumerate(steps):
            one = index, place
            rows.append(
                {
                    "measure": name,
                    "timestep": t,
                    "accuracy": 100 * float(accuracy[place]),
                    "reference": 100 * float(reference[place]),
                    "difference": 100 * float(shown.difference.value[one]),
                    "low": 100 * float(shown.simultaneous.low[one]),
                    "high": 100 * float(shown.simultaneous.high[one]),
                    "p": float(shown.p_corrected[one]) if tested[place] else np.nan,
                    "verdict": shown.words[one] if tested[place] else SAME,
                    "sentence": shown.sentence(one) if tested[place] else SAME,
                    "conditions": where,
                }
            )
    return pd.DataFrame(rows)


def _perturbed(found: Answers) -> list[int]:
    """Places of the conditions that an area can be of: attacks are judged by their worst case instead."""
    about = found.conditions
    kept = ~about["group"].isin(["clean", "attack"]) & (about["severity"] != 0)
    return np.flatnonzero(kept.to_numpy()).tolist()


def _weights(found: Measured, rows: Sequence[int], notes: list[str]) -> AboveChance | None:
    answers_of = found.system.answers
    classes = answers_of.classes or found.against.answers.classes
    if not classes:
        notes.append("no area above chance: these results do not say how many classes there are")
        return None
    about = answers_of.conditions.iloc[list(rows)]
    conditions = list(zip(about["perturbation"], about["severity"], strict=True))
    start = found.against.answers.values[list(rows), :, 0].astype(bool)
    try:
        return weigh_above_chance(conditions, start, 1 / classes)
    except ValueError as error:
        notes.append(f"no area above chance: {error}")
        return None


def _kept(found: Measured, rows: Sequence[int], weights: AboveChance) -> str:
    about = found.system.answers.conditions.iloc[list(rows)]
    kept = about[weights.kept & (weights.weights > 0)]
    names = list(dict.fromkeys(kept["perturbation"]))
    what = names[0].replace("_", " ") if len(names) == 1 else f"{len(names)} perturbations"
    levels = sorted(set(kept["severity"]))
    span = f"{levels[0]:g}" if len(levels) == 1 else f"{levels[0]:g} to {levels[-1]:g}"
    return f"{what}, strength {span}; {len(kept)} of {len(rows)} conditions"


def _clean_pair(found: Measured, clean: Mapping[System, Answers]) -> tuple[Any, Any] | None:
    """(timesteps or 1, I) outcomes of both on clean images, at the steps of the comparison."""
    result = []
    for side in (found.system, found.against):
        outcomes = _clean_outcomes(side, clean)
        if outcomes is None:
            return None
        if len(side.answers.timesteps) == 1:  # no dynamics, or a network's own start
            result.append(outcomes[:1])
        else:
            result.append(outcomes[found.steps])
    return result[0], result[1]


def _clean_outcomes(side: Side, clean: Mapping[System, Answers]) -> Any | None:
    """(T + 1, I) outcomes on the images of a side; None where there are none."""
    there = clean.get(side.answers.system)
    if there is None:
        return None
    images = side.answers.images
    if len(images) and len(there.images) and not np.array_equal(images, there.images):
        there = there.on(images)
    if there.values.shape[1] != side.answers.values.shape[1]:
        return None
    return np.ascontiguousarray(there.values[0].astype(bool).T)


def _beyond(
    found: Measured,
    clean: Mapping[System, Answers],
    others: Sequence[Side],
    rows: Sequence[int],
    weights: AboveChance,
    pair: tuple[Any, Any] | None,
    steps: Sequence[int],
    notes: list[str],
) -> list[dict[str, Any]]:
    """The rows of effective robustness and of the controls' frontier, where there are networks that give them."""
    own = found.system.answers.system
    if pair is None or found.against.answers.system == own:
        return []
    line: list[tuple[Any, Floats]] = []
    frontier: list[tuple[Any, Floats]] = []
    for side in others:
        outcomes = _clean_outcomes(side, clean)
        if side.answers.system == own or outcomes is None:
            continue
        control = side.answers.system.model.name.startswith(CONTROLS)
        if not control and len(side.answers.timesteps) > 1:
            continue
        values = side.answers.values[list(rows)].astype(bool)
        each = [(outcomes[t], of_conditions(values[:, :, t], weights.weights)) for t in range(len(outcomes))]
        (frontier if control else line).extend(each)
    at = [found.steps.index(t) for t in steps]
    mine = pair[0][at if pair[0].shape[0] > 1 else [0] * len(at)]
    under = of_conditions(found.first[list(rows)][:, at], weights.weights)
    result: list[dict[str, Any]] = []

    def add(name: str, excess: Excess, where: str) -> None:
        for place, t in enumerate(steps):
            value, p = float(excess.value.value[place]), float(excess.p[place])
            if np.isnan(value):
                notes.append(f"{name}: no control keeps the clean accuracy of {found.system.label} at t = {t}")
                continue
            word = "no difference shown" if not p < round(1 - LEVEL, 12) else "better" if value > 0 else "worse"
            result.append(
                {
                    "measure": name,
                    "timestep": t,
                    "accuracy": 100 * float(under[place].mean()),
                    "reference": 100 * float(excess.expected[place]),
                    "difference": 100 * value,
                    "low": 100 * float(excess.value.low[place]),
                    "high": 100 * float(excess.value.high[place]),
                    "p": p,
                    "verdict": word,
                    "sentence": "",
                    "conditions": where,
                }
            )

    if len({float(each.mean()) for each, _ in line}) >= FEWEST_CONTROLS:
        excess = effective_robustness(mine, under, *_stacked(line))
        add(BEYOND, excess, f"beyond a line through {len(line)} networks without dynamics; marginal")
    if frontier:
        excess = beyond_frontier(mine, under, *_stacked(frontier))
        add(MATCHED, excess, f"best of {len(frontier)} points of controls that keep as much clean accuracy; marginal")
    return result


def _stacked(points: Sequence[tuple[Any, Floats]]) -> tuple[Floats, Floats]:
    """(K, I) outcomes of K controls on clean images, and under perturbation."""
    return np.stack([each for each, _ in points]), np.stack([each for _, each in points])
