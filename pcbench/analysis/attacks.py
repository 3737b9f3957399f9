"""What the records of attacks say: attack x evaluation timestep, robust accuracies, the worst case over attacks.

Names of attacked conditions are read here and nowhere else: LABEL@READOUT with LABEL = ATTACK[-NORM][+VARIANT]
[+from:MODEL], e.g. "pgd-linf@t4", "apgd-ce-l2+double@mean", "bim+from:efficientnet-lite0@t0".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pcbench.intervals import wilson

# What an attack must know, where that is not the network's gradients through several steps.
ROLES = {
    "fgsm": "single-step",
    "square": "gradient-free",
    "spsa": "gradient-free",
    "pixle": "gradient-free",
    "hop-skip-jump": "hard-label",
    "boundary": "hard-label",
}
WORST = "worst case"  # over attacks, image by image
_NORMS = {"cw": "l2", "deepfool": "l2", "boundary": "l2", "pixle": "l0"}


@dataclass(frozen=True)
class AttackName:
    """The parts of an attacked condition's name.

    Attributes:
        label: everything before "@".
        attack: the registered attack, without norm.
        norm: "linf", "l2" or "l0".
        variant: "" for the plain attack.
        source: the model that it was crafted on; "" for the model under test.
        readout: "t4", "mean", "worst".
    """

    label: str
    attack: str
    norm: str
    variant: str
    source: str
    readout: str

    @property
    def timestep(self) -> int | None:
        """The attacked timestep; None for "mean" and "worst"."""
        return int(self.readout[1:]) if re.fullmatch(r"t\d+", self.readout) else None

    @property
    def role(self) -> str:
        """What the attacker had: "white-box", "single-step", "gradient-free", "hard-label" or "transfer"."""
        return "transfer" if self.source else ROLES.get(self.attack, "white-box")


def read_name(perturbation: str) -> AttackName:
    """The parts of a name.

    >>> name = read_name("apgd-ce-l2+double@t4")
    >>> name.attack, name.norm, name.variant, name.timestep, name.role
    ('apgd-ce', 'l2', 'double', 4, 'white-box')
    """
    label, _, readout = perturbation.rpartition("@")
    start, _, source = label.partition("+from:")
    plain, _, variant = start.partition("+")
    norm = _NORMS.get(plain, "linf")
    attack = plain
    for known in ("linf", "l2"):
        if plain.endswith(f"-{known}"):
            norm = known
            attack = plain if plain.startswith("pgd-") else plain.removesuffix(f"-{known}")
    return AttackName(label, attack, norm, variant, source, readout)


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
    """The rows of attacked conditions, with the parts of their names as columns.

    Args:
        records: rows with the columns of `pcbench.results.schema`.

    Returns:
        The rows of group "attack" with further columns label, attack, norm, variant, source, role, readout, and at
        (the attacked timestep, -1 for "mean" and "worst"); "attacked" and "success" as bool.
    """
    rows = records[records["group"] == "attack"].copy()
    names = {name: read_name(str(name)) for name in rows["perturbation"].unique()}
    for part in ("label", "attack", "norm", "variant", "source", "role", "readout"):
        rows[part] = rows["perturbation"].map({name: getattr(read, part) for name, read in names.items()}).astype(str)
    steps = {name: -1 if read.timestep is None else read.timestep for name, read in names.items()}
    rows["at"] = rows["perturbation"].map(steps).astype(int)
    for column in ("attacked", "success"):
        rows[column] = rows[column].astype(bool) if column in rows else False
    return rows


def main_attack(rows: pd.DataFrame) -> str | None:
    """The label that a suite is about: the plain white-box attack with the most conditions; the first of equals."""
    plain = rows[(rows["role"] == "white-box") & (rows["variant"] == "")]
    if plain.empty:
        plain = rows
    if plain.empty:
        return None
    cells = plain.drop_duplicates(["label", "readout", "severity"])
    return str(cells["label"].value_counts(sort=False).idxmax())


def matrix(records: pd.DataFrame, label: str, epsilon: float) -> pd.DataFrame:
    """Attack timestep x evaluation timestep: the accuracy at each timestep under an attack on each timestep.

    Args:
        records: of one model and suite.
        label: of the attack.
        epsilon: its radius.

    Returns:
        A row for each pair: at (attacked timestep), timestep (evaluated), n, correct, accuracy in [0, 1], among the
        images that were attacked: those that are classified correctly at the attacked timestep without attack.
    """
    rows = attack_records(records)
    rows = rows[(rows["label"] == label) & (rows["severity"] == epsilon) & (rows["at"] >= 0) & rows["attacked"]]
    return _counted(rows, ["at", "timestep"])


def robust_accuracy(records: pd.DataFrame) -> pd.DataFrame:
    """Robust accuracy of each attack on the timestep that it attacked, and of the worst case over attacks.

    Args:
        records: of one model and suite.

    Returns:
        A row for each label (and `WORST`), norm, epsilon and timestep: conditions (how many it is over), n, correct,
        robust (accuracy among all images, in [0, 1]), n_clean, survived, robust_of_clean (the same among the images
        that are classified correctly without attack), and Wilson intervals of both: low, high, clean_low, clean_high.
        An attack is judged at the timestep that it attacked, a transferred one at every timestep. The worst case of an
        image is over all attacks of the suite of that norm and radius, on whatever timestep and from whatever source,
        since each of their images is in the ball.
    """
    rows = attack_records(records)
    clean = clean_answers(records)
    columns = ["label", "norm", "epsilon", "timestep", "conditions", "n", "correct", "robust", "low", "high"]
    columns += ["n_clean", "survived", "robust_of_clean", "clean_low", "clean_high"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    own = rows[(rows["at"] == rows["timestep"]) | (rows["source"] != "")]
    each = own.assign(conditions=1)
    ball = ["norm", "severity", "image", "timestep"]
    worst = rows.groupby(ball, as_index=False).agg(
        correct=("correct", "all"), attacked=("attacked", "any"), conditions=("perturbation", "nunique")
    )
    worst = worst[worst["conditions"] > 1].assign(label=WORST)
    table = pd.concat([each, worst], ignore_index=True).rename(columns={"severity": "epsilon"})
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
        own = rows.loc[rows["label"] != WORST, "timestep"]
        if own.empty:  # attacks on the mean or the worst of timesteps are about all of them
            own = rows["timestep"]
        for step in sorted({int(own.min()), int(own.max())}):
            here = rows[rows["timestep"] == step]
            worst = here[here["label"] == WORST]
            kept.append(worst if len(worst) else here)
    return pd.concat(kept, ignore_index=True) if kept else robust


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
    own = rows[(rows["label"] == label) & (rows["at"] == rows["timestep"])]
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
    own = rows[(rows["label"] == chosen) & (rows["at"] == rows["timestep"]) & rows["attacked"]]
    table = own.groupby(["severity", "timestep"])["success"].agg(n="size", successes="sum").reset_index()
    table = table.rename(columns={"severity": "epsilon"})
    table["rate"] = table["successes"] / table["n"]
    first = table[table["timestep"] == 0].set_index("epsilon")["rate"]
    table["relative"] = table["rate"] - table["epsilon"].map(first) + 1
    return table
