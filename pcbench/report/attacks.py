"""What a report says of attacks: can they be believed, what do they leave, and their figures."""

import base64
import io
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pcbench.analysis.answers import Answers
from pcbench.analysis.attacks import WORST, attack_label, radius, robust_accuracy, worst_cases
from pcbench.analysis.believability import Check, Verdict, believability, doubts, overall
from pcbench.analysis.robustness import attacked_systems
from pcbench.keys import Condition
from pcbench.results.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure: its file as a data URI, and what it shows."""

    source: str
    caption: str


@dataclass(frozen=True)
class Story:
    """The attacks on one model in one suite.

    Attributes:
        title: model, weights, data and suite.
        verdict: the worst of the checks.
        doubts: the checks that were not passed, in one line; empty when there are none.
        robust: a row for each radius and timestep: what the worst of the attacks leaves, image by image.
        checks: all of them.
        pictures: its figures.
    """

    title: str
    verdict: Verdict
    doubts: str
    robust: list[dict[str, object]]
    checks: list[Check]
    pictures: list[Picture]


def stories(study: Study) -> list[Story]:
    """A story for each system and suite with attacks."""
    found = []
    for suite, label, records in attacked_systems(study):
        checks = believability(records)
        title = f"{label} [{records['weights'].iloc[0]}] on {records['data'].iloc[0]}, suite {suite}"
        found.append(Story(title, overall(checks), doubts(checks), _robust(records), checks, _pictures(records)))
    return found


def apart(found: Answers) -> Answers:
    """The answers of a suite of attacks with each condition by itself, named with its radius, after the worst cases.

    A worst case is right where every attack of its norm and radius left the image right. Answers without attacks stay
    as they are.
    """
    conditions = found.conditions
    if not (conditions["group"] == "attack").any():
        return found
    names, balls = [], dict[str, list[int]]()
    for row, key in enumerate(found.keys):
        norm, size = str(key.params.get("norm", "linf")), key.severity
        name = attack_label(_columns(key)) if key.kind == "attack" else key.perturbation
        if key.kind == "attack" and found.values.shape[2] > 1:
            name += (
                f" on t = {key.params['at']}" if key.params["readout"] == "timestep" else f" on {key.params['readout']}"
            )
        names.append(f"{name} {radius(size, norm)}" if size else name)
        if key.kind == "attack":
            balls.setdefault(_ball(norm, size), []).append(row)
    first = [rows[0] for rows in balls.values()]
    firsts = conditions.iloc[first].assign(perturbation=list(balls))
    values = np.stack([found.values[rows].all(axis=0) for rows in balls.values()])
    return replace(
        found,
        conditions=pd.concat([firsts, conditions.assign(perturbation=names)], ignore_index=True),
        keys=(
            *(replace(found.keys[row], perturbation=ball) for row, ball in zip(first, balls, strict=True)),
            *(replace(key, perturbation=name) for key, name in zip(found.keys, names, strict=True)),
        ),
        values=np.concatenate([values, found.values]),
    )


def judged_at(found: Answers) -> dict[str, set[int]]:
    """The timesteps at which the worst cases of `apart` can be judged, by name; others would look robust unattacked.

    They are those that an attack of the ball was made for; all, where one was made for the mean or the worst of them,
    or where all of them come from another network.
    """
    steps: dict[str, set[int]] = {}
    every = {int(t) for t in found.timesteps}
    for key in found.keys:
        if key.kind == "attack" and key.params.get("readout") is not None:
            own = (
                set()
                if key.params["source"]
                else every
                if key.params["readout"] != "timestep"
                else {int(key.params["at"])}
            )
            steps.setdefault(_ball(str(key.params["norm"]), key.severity), set()).update(own)
    return {ball: own or every for ball, own in steps.items()}


def _columns(key: Condition) -> dict[str, object]:
    """A condition's params as its typed columns have them."""
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in key.params.items()}


def _ball(norm: str, epsilon: float) -> str:
    return f"{WORST} {norm} {radius(epsilon, norm)}"


def _robust(records: pd.DataFrame) -> list[dict[str, object]]:
    rows = worst_cases(robust_accuracy(records)).to_dict(orient="records")
    return [
        {
            "radius": f"{row['norm']} {radius(row['epsilon'], row['norm'])}",
            "timestep": row["timestep"],
            "attacks": row["conditions"],
            "all": _share(row["correct"], row["n"], row["low"], row["high"]),
            "clean": _share(row["survived"], row["n_clean"], row["clean_low"], row["clean_high"]),
        }
        for row in rows
    ]


def _share(count: int, n: int, low: float, high: float) -> str:
    return f"{100 * count / n:.1f} % ({count} of {n}), {100 * low:.1f} to {100 * high:.1f}" if n else "none"


def _pictures(records: pd.DataFrame) -> list[Picture]:
    from pcbench.figures import style
    from pcbench.figures.adversarial import CAPTIONS, drawings

    with style.style():
        return [Picture(_data_uri(figure), CAPTIONS[name]) for name, (figure, _) in drawings(records).items()]


def _data_uri(figure: "Figure") -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=160)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
