"""What the records of attacks say: attack x evaluation timestep, robust accuracies, the worst case, paired tests.

What an attack was is read from its typed columns (`pcbench.results.cell.ATTACK_COLUMNS`, and "cell", which tells one
condition from another); names are made from them, for people, and never parsed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pcbench.analysis.paired import paired
from pcbench.intervals import wilson

WORST = "worst case"  # over attacks, image by image
NOISE = "noise-control"  # group of random noise of an attack's norm
# What makes two attacks the same one, on whatever network and timestep.
IDENTITY = ("attack", "norm", "severity", "loss", "readout", "objective", "gradient", "source", "role", "options")
_TEXTS = ("attack", "norm", "loss", "readout", "objective", "gradient", "source", "knowledge", "role", "judged")


def attack_label(row: Mapping[str, Any]) -> str:
    """What people call an attack: what tells it from the other attacks of a suite, but for radius and readout.

    >>> attack_label({"attack": "pgd", "loss": "ce", "options": '{"steps": 20, "restarts": 2}', "source": "vgg16"})
    'pgd-20 x 2, ce, from vgg16'

    Args:
        row: values of the typed columns, those that are missing left out.
    """
    options = _options(row)
    steps = options.get("steps", options.get("queries"))
    name = str(row["attack"]) + (f"-{steps}" if steps is not None else "")
    if int(options.get("restarts", 1)) > 1:
        name += f" x {options['restarts']}"
    parts = [name]
    if int(options.get("targets", 0)) > 0:
        parts.append(f"{options['targets']} targets")
    parts += [
        str(row[part])
        for part, plain in (("loss", "margin"), ("norm", "linf"))
        if row.get(part, plain) not in (plain, "")
    ]
    if row.get("objective", "readout") not in ("readout", ""):
        parts.append(f"on {row['objective']}")
    if row.get("gradient", "exact") not in ("exact", ""):
        parts.append(f"{row['gradient']} gradient")
    if row.get("source"):
        parts.append(f"from {row['source']}")
    return ", ".join(parts)


def _options(row: Mapping[str, Any]) -> dict[str, Any]:
    given = row.get("options", "")
    return dict(json.loads(given)) if isinstance(given, str) and given else {}


def radius(epsilon: float, norm: str = "linf") -> str:
    """A radius as people write it.

    >>> radius(8 / 255), radius(1 / 2040), radius(0.2), radius(0.5, "l2")
    ('8/255', '0.125/255', '0.2', '0.5')
    """
    steps, hundredths = epsilon * 255, epsilon * 100
    plain = abs(hundredths - round(hundredths)) < 1e-6
    if norm == "linf" and not plain and abs(steps * 8 - round(steps * 8)) < 1e-6:
        return f"{steps:.3g}/255"
    return f"{epsilon:.4g}"


def attack_records(records: pd.DataFrame) -> pd.DataFrame:
    """The rows of attacked conditions, ready to be counted.

    Args:
        records: of one model and suite: image, timestep, correct, group, severity, cell, attacked, success, and the
            typed columns.

    Returns:
        The rows of group "attack"; the typed columns as text, "" where there is none; "attacked" and "success" as bool;
        and further columns: label (see `attack_label`), at (int), aimed (the attacked timestep; -1 for other readouts),
        own (bool: the row's timestep is one at which the attack may be judged as an attack: the one it aimed at; every
        one, where it aimed at several or was crafted on another network).
    """
    rows = records[records["group"] == "attack"].copy()
    for column in _TEXTS:
        rows[column] = rows[column].fillna("").astype(str) if column in rows else ""
    rows["options"] = rows["options"].fillna("").astype(str) if "options" in rows else ""
    cells = rows.drop_duplicates("cell").set_index("cell")
    labels = {cell: attack_label(dict(row)) for cell, row in cells.iterrows()}
    rows["label"] = rows["cell"].map(labels).astype(str)
    rows["at"] = pd.to_numeric(rows["at"]).astype(int) if "at" in rows and len(rows) else 0
    rows["aimed"] = rows["at"].where(rows["readout"] == "timestep", -1)
    rows["own"] = (rows["aimed"] == rows["timestep"]) | (rows["readout"] != "timestep") | (rows["source"] != "")
    if "has_dynamics" in rows:  # without dynamics, an attack on its one answer is one on every timestep
        rows["own"] |= ~rows["has_dynamics"].astype(bool)
    for column in ("attacked", "success"):
        rows[column] = rows[column].fillna(False).astype(bool) if column in rows else False
    return rows


def main_attack(rows: pd.DataFrame) -> str | None:
    """The label that a suite is about: the white-box attack, no evidence, with the most conditions.

    Args:
        rows: see `attack_records`.
    """
    plain = rows[(rows["knowledge"] == "white-box") & (rows["role"] == "attack")]
    if plain.empty:
        plain = rows
    if plain.empty:
        return None
    return str(plain.drop_duplicates("cell")["label"].value_counts(sort=False).idxmax())


def matrix(records: pd.DataFrame, label: str, epsilon: float) -> pd.DataFrame:
    """Attack timestep x evaluation timestep: the accuracy at each timestep under an attack on each timestep.

    Off the diagonal only attacks whose images went all the way: one that stops when the aimed timestep is fooled says
    nothing of another.

    Args:
        records: of one model and suite.
        label: of the attack.
        epsilon: its radius.

    Returns:
        A row for each pair: at (attacked timestep), timestep (evaluated), n, correct, accuracy in [0, 1], among the
        images that were attacked: those that are classified correctly at the attacked timestep without attack.
    """
    rows = attack_records(records)
    rows = rows[(rows["label"] == label) & (rows["severity"] == epsilon) & (rows["aimed"] >= 0) & rows["attacked"]]
    rows = rows[(rows["judged"] != "aimed") | (rows["aimed"] == rows["timestep"])]
    return _counted(rows.assign(at=rows["aimed"]), ["at", "timestep"])


def robust_accuracy(records: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy of each attack on the timestep that it attacked, and of the worst case over attacks.

    Args:
        records: of one model and suite.

    Returns:
        A row for each label (and `WORST`), norm, epsilon and timestep: conditions (how many it is over), n, correct,
        robust (accuracy among all images, in [0, 1]), n_clean, survived, robust_of_clean (the same among the images
        that are classified correctly without attack), and Wilson intervals of both: low, high, clean_low, clean_high.
        The worst case of an image is over all attacks of that norm and radius, evidence included, on whatever timestep
        and from whatever source, since each of their images is in the ball: so it is never higher than what any piece
        of evidence found. It is given at the timesteps alone at which something aimed.
    """
    rows = attack_records(records)
    clean = clean_answers(records)
    columns = ["label", "norm", "epsilon", "timestep", "conditions", "n", "correct", "robust", "low", "high"]
    columns += ["n_clean", "survived", "robust_of_clean", "clean_low", "clean_high"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    table = pd.concat([rows[rows["own"]].assign(conditions=1), worst_case(rows)], ignore_index=True)
    table = table.rename(columns={"severity": "epsilon"})
    if len(clean):
        keys = pd.MultiIndex.from_frame(table[["image", "timestep"]])
        table["attacked"] = clean.reindex(keys).to_numpy(dtype=bool)
    table["survived"] = table["attacked"] & table["correct"].astype(bool)
    sums = (
        table.groupby(["label", "norm", "epsilon", "timestep"], sort=False)
        .agg(
            conditions=("conditions", "max"),
            n=("correct", "size"),
            correct=("correct", "sum"),
            n_clean=("attacked", "sum"),
            survived=("survived", "sum"),
        )
        .reset_index()
    )
    sums["robust"] = sums["correct"] / sums["n"]
    sums["robust_of_clean"] = sums["survived"] / sums["n_clean"].where(sums["n_clean"] > 0)
    sums["low"], sums["high"] = wilson(sums["correct"], sums["n"])
    sums["clean_low"], sums["clean_high"] = wilson(sums["survived"], sums["n_clean"].clip(lower=1))
    return sums[columns]


def worst_case(rows: pd.DataFrame) -> pd.DataFrame:
    """Image by image, what all attacks of a ball left, at the timesteps at which one of them aimed.

    Args:
        rows: see `attack_records`.

    Returns:
        A row for each norm, severity, timestep and image of a ball with several conditions: correct, attacked,
        conditions, label.
    """
    ball = ["norm", "severity", "timestep"]
    aimed = rows.loc[rows["own"], ball].drop_duplicates()
    worst = (
        rows.merge(aimed, on=ball)
        .groupby([*ball, "image"], as_index=False)
        .agg(correct=("correct", "all"), attacked=("attacked", "any"), conditions=("cell", "nunique"))
    )
    return worst[worst["conditions"] > 1].assign(label=WORST)


def worst_cases(robust: pd.DataFrame) -> pd.DataFrame:
    """What is left at each radius: the rows of `robust_accuracy` that stand for all the attacks of a suite.

    Args:
        robust: as `robust_accuracy` returns it, of one model and suite.

    Returns:
        For each norm and epsilon the rows of the first and the last timestep that was attacked: `WORST` where several
        conditions share the ball, else the only one.
    """
    kept = []
    for _, rows in robust.groupby(["norm", "epsilon"], sort=True):
        steps = rows["timestep"]
        for step in sorted({int(steps.min()), int(steps.max())}):
            here = rows[rows["timestep"] == step]
            worst = here[here["label"] == WORST]
            kept.append(worst if len(worst) else here)
    return pd.concat(kept, ignore_index=True) if kept else robust


def compare_robustness(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Two networks under attack, image by image: the worst case over the attacks that both went through.

    An attack of the one counts when the other had the same (`IDENTITY`) on the answer that is compared: each attacked
    timestep with the same timestep of the other, or with its one answer, where it has no dynamics. Transfers and
    whatever one network alone was attacked with are left out; so the figures may be higher than `robust_accuracy`.

    Args:
        ours: records of one model and suite.
        theirs: of another model, on the same images.

    Returns:
        A row for each norm, epsilon and timestep at which both were attacked: attacks (their number), n, ours, theirs
        (accuracies in [0, 1]), gained, lost (images that only the one, or the other, gets right), difference, low, high
        (its interval), p (McNemar's exact test).
    """
    columns = ["norm", "epsilon", "timestep", "attacks", "n", "ours", "theirs", "gained", "lost"]
    columns += ["difference", "low", "high", "p"]
    sides = [_aimed(records) for records in (ours, theirs)]
    found = []
    for (norm, epsilon, step), mine in sides[0].groupby(["norm", "severity", "timestep"], sort=True):
        other = sides[1]
        other = other[(other["norm"] == norm) & (other["severity"] == epsilon) & (other["timestep"] == step)]
        common = set(mine["identity"]) & set(other["identity"])
        if not common:
            continue
        left = [
            rows[rows["identity"].isin(common)].groupby("image")["correct"].all().rename(name)
            for name, rows in (("ours", mine), ("theirs", other))
        ]
        both = pd.concat(left, axis=1, join="inner").astype(bool)
        if both.empty:
            continue
        a, b = both["ours"].to_numpy(), both["theirs"].to_numpy()
        gained, lost = int((a & ~b).sum()), int((b & ~a).sum())
        difference = paired(a[None], b[None])
        limits = difference.interval()
        row = [norm, epsilon, step, len(common), len(both), a.mean(), b.mean(), gained, lost, a.mean() - b.mean()]
        found.append([*row, float(limits.low), float(limits.high), float(difference.p())])
    return pd.DataFrame(found, columns=columns)


def _aimed(records: pd.DataFrame) -> pd.DataFrame:
    """The rows at the timesteps that attacks aimed at, with what identifies the attack."""
    rows = attack_records(records)
    rows = rows[rows["own"] & (rows["source"] == "")]
    identity = [tuple(values) for values in rows[list(IDENTITY)].itertuples(index=False)]
    return rows.assign(identity=pd.Series(identity, index=rows.index, dtype=object))


def clean_answers(records: pd.DataFrame) -> "pd.Series[bool]":
    """Whether each (image, timestep) is right without attack; empty when the suite has no clean condition."""
    clean = records[records["group"] == "clean"]
    return clean.set_index(["image", "timestep"])["correct"].astype(bool)


def over_time(records: pd.DataFrame, label: str) -> pd.DataFrame:
    """Accuracy against timestep for each epsilon, each timestep under the attack that was made for it.

    Args:
        records: of one model and suite.
        label: of the attack.

    Returns:
        A row for each epsilon and attacked timestep: epsilon, timestep, n, correct, accuracy, low, high, among all
        images. Epsilon 0 is the clean condition, at every timestep.
    """
    rows = attack_records(records)
    own = rows[(rows["label"] == label) & (rows["aimed"] == rows["timestep"])]
    clean = records[records["group"] == "clean"].assign(severity=0.0)
    both = pd.concat([clean, own]).rename(columns={"severity": "epsilon"})
    return _counted(both, ["epsilon", "timestep"])


def _counted(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    table = rows.groupby(list(by))["correct"].agg(n="size", correct="sum").reset_index()
    table["accuracy"] = table["correct"] / table["n"]
    table["low"], table["high"] = wilson(table["correct"], table["n"]) if len(table) else (np.empty(0), np.empty(0))
    return table


def successes(records: pd.DataFrame, label: str | None = None) -> pd.DataFrame:
    """The paper's two figures: how many attacks reach their goal, per epsilon and attacked timestep.

    Args:
        records: of one model and suite.
        label: of the attack; None for the suite's main one.

    Returns:
        A row for each epsilon and attacked timestep: epsilon, timestep, n (attacked images), successes, rate
        (successes / n), relative (rate minus that at timestep 0, plus 1: the paper shifts the rate so that the
        feedforward network's is 1; NaN where timestep 0 was not attacked).
    """
    rows = attack_records(records)
    chosen = label or main_attack(rows)
    own = rows[(rows["label"] == chosen) & (rows["aimed"] == rows["timestep"]) & rows["attacked"]]
    table = own.groupby(["severity", "timestep"])["success"].agg(n="size", successes="sum").reset_index()
    table = table.rename(columns={"severity": "epsilon"})
    table["rate"] = table["successes"] / table["n"]
    first = table[table["timestep"] == 0].set_index("epsilon")["rate"]
    table["relative"] = table["rate"] - table["epsilon"].map(first) + 1
    return table
