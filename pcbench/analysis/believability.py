"""Can one believe an attack's robust accuracies? Checks over the records, each with a figure and a verdict.

The checks are those of the adaptive-attack literature and of AutoAttack's flags, and one that does not argue but tries:
an independent strong attack on what is left. They cannot prove that an attack was strong. Comparisons of two attacks
are paired by image. What a condition was is read from the typed columns, see `pcbench.analysis.attacks`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import pandas as pd

from pcbench.analysis.attacks import NOISE, attack_label, attack_records, main_attack, radius

Verdict = Literal["ok", "suspicious", "failed", "not run"]

# An independent strong attack may break so much of all images, of what the suite's attacks left.
STRONG = 0.01
# A number of images that goes the wrong way is suspicious above the first share of the images and one image (which
# random starts decide), failed above the second share and two images.
SUSPICIOUS, FAILED = 0.01, 0.05
# AutoAttack's flag: Square lowers the accuracy of white-box attacks by more than 0.2 points.
SQUARE = 0.002
# What a gradient-free attack must break of the undefended baseline (of this network, where there is none) to be a test.
POWER = 0.1
# Accuracy that may be left at a large radius.
LEFT = 0.02
NOBODY = "no image was attacked: none was right before"
# Relative disagreement of gradient and finite differences, median over images.
GRADIENT_OK, GRADIENT_FAILED = 0.05, 0.2
# Cosine of the gradients of cross-entropy and margin, median over images.
COSINE_OK, COSINE_FAILED = 0.3, 0.1
# Share of what an attack that fails gains that may come in the second half of its steps, median over images.
FLAT_OK, FLAT_FAILED = 0.1, 0.25

_BLIND = "judge it by attacks that need no gradients (square, foolbox:HopSkipJumpAttack) and by transfer"
_SEARCH = "give the attack more steps, restarts and targets, and report the worst case over attacks"
_ADVICE = {
    "randomised": "average over the randomness (samples = 20, or autoattack's version rand), or fix it",
    "softmax": "let the model return logits",
    "zero gradient": f"gradient attacks see nothing here: {_BLIND}",
    "optimises": f"do gradients pass through the inner optimisation? If not, {_BLIND}",
    "quantised input": f"the network rounds its input, so that gradients are not of what it computes: {_BLIND}",
    "exact gradient": "gradient attacks overrate it (states are detached, or it jumps, as thresholds do): declare a "
    f"smooth stand-in, or {_BLIND}",
    "losses agree": "the cross-entropy hides what the margin shows (saturated or smoothed logits): attack the margin "
    "or the difference-of-logits ratio",
    "strong attack": "the figure is the lower one, the strong attack included; judge it by that, or by autoattack",
    "converged": _SEARCH,
    "both losses": "attack both losses, and report the worst case over attacks",
    "curves are flat": _SEARCH,
    "iterative beats single-step": _SEARCH,
    "strongest white-box": "the main attack overrates the network: report the worst case over attacks",
    "monotone in epsilon": _SEARCH,
    "breaks all at a large epsilon": f"either the attack does not work or gradients mislead it: {_BLIND}",
    "Square after white-box": f"gradients mislead: {_BLIND}, and report the worst case over attacks",
    "white-box beats gradient-free": f"gradients mislead: {_BLIND}, and report the worst case over attacks",
    "white-box beats hard-label": f"gradients mislead: {_BLIND}, and report the worst case over attacks",
    "beats other timesteps": "report the worst case over attacked timesteps; is a state detached on the way?",
    "white-box beats transfer": "gradients mislead: report the worst case, transfer included",
    "beats random noise": "the attack is weaker than chance: its accuracies say nothing",
    "other gradients and objectives": "the exact gradient of the last answer is not the strongest: attack with this",
}


@dataclass(frozen=True)
class Check:
    """One check of one model.

    Attributes:
        name: short.
        question: what is asked, one line.
        figure: the number that answers it, in words.
        verdict: "ok", "suspicious", "failed" or "not run".
    """

    name: str
    question: str
    figure: str
    verdict: Verdict

    @property
    def advice(self) -> str:
        """What to do about it; empty unless it is suspicious or failed."""
        return _ADVICE[self.name] if self.verdict in ("suspicious", "failed") else ""


def believability(records: pd.DataFrame, baseline: pd.DataFrame | None = None) -> list[Check]:
    """All checks of one model in one suite, in a fixed order.

    Args:
        records: its rows, with the columns that attacks and probes add.
        baseline: those of its undefended baseline in the same suite: what Square achieves there is the yardstick of
            whether it could have achieved anything here. None: what it achieves here.
    """
    cells = _Cells(attack_records(records))
    noise = records[records["group"] == NOISE]
    probes = records[records["group"] == "probe"].drop_duplicates(["cell", "image"])
    yardstick = cells if baseline is None else _Cells(attack_records(baseline))
    return [
        _flag(probes, "randomised", "answers of the same image differ from pass to pass", "failed"),
        _flag(probes, "softmax", "answers are probabilities, on which losses saturate", "suspicious"),
        _flag(probes, "zero_gradient", "the gradient of the loss is zero or not finite", "failed"),
        _flag(probes, "optimises", "the forward pass takes gradients inside (optimisation at test time)", "suspicious"),
        _flag(probes, "quantised", "a change of every pixel, too small for eight bits, changes nothing", "failed"),
        _gradients(probes),
        _losses_agree(probes),
        _strong(cells),
        _converged(cells),
        _both_losses(cells),
        _flat(cells),
        _weaker(cells, "single-step", "iterative beats single-step", "images that one step breaks, many do not"),
        _strongest(cells),
        _monotone(cells),
        _large(cells),
        _square(cells, yardstick),
        _weaker(cells, "gradient-free", "white-box beats gradient-free", "images broken without gradients alone"),
        _weaker(cells, "hard-label", "white-box beats hard-label", "images broken by labels alone"),
        _other_timesteps(cells),
        _weaker(cells, "transfer", "white-box beats transfer", "images broken from another network alone"),
        _noise(cells, noise),
        _other_gradients(cells, probes),
    ]


_PARTS = ("verdict", "figure", "question", "advice")


def overall(checks: list[Check]) -> Verdict:
    """The worst verdict; "not run" only when no check was run."""
    order: list[Verdict] = ["failed", "suspicious", "ok", "not run"]
    return min((check.verdict for check in checks), key=order.index, default="not run")


def doubts(checks: Iterable[Check]) -> str:
    """The checks that are suspicious or failed, in one line; empty when there are none.

    >>> doubts([Check("softmax", "", "", "suspicious"), Check("converged", "", "", "failed"), Check("x", "", "", "ok")])
    'failed: converged; suspicious: softmax'
    """
    found: dict[str, list[str]] = {"failed": [], "suspicious": []}
    for check in checks:
        if check.verdict in found:
            found[check.verdict].append(check.name)
    return "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in found.items() if names)


def table(records: pd.DataFrame) -> pd.DataFrame:
    """The checks of every model and suite with attacks, a row for each.

    Columns: model, weights, data, suite, check, verdict, figure, question, advice.

    Args:
        records: of any models and suites.
    """
    found = []
    for system, part in records.groupby(["model", "weights", "data", "suite"], sort=False, observed=True):
        if not (part["group"] == "attack").any():
            continue
        names = dict(zip(["model", "weights", "data", "suite"], system, strict=True))
        found += [
            {**names, "check": check.name, **{part: getattr(check, part) for part in _PARTS}}
            for check in believability(part)
        ]
    return pd.DataFrame(found, columns=["model", "weights", "data", "suite", "check", *_PARTS])


@dataclass(frozen=True)
class _Condition:
    """An attacked condition: its values, and who was still right at each timestep."""

    values: dict[str, Any]
    rows: pd.DataFrame

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def ball(self) -> tuple[str, float]:
        """Norm and radius."""
        return str(self.values["norm"]), float(self.values["severity"])

    @property
    def aim(self) -> tuple[str, int]:
        """The readout that it aimed at."""
        return str(self.values["readout"]), int(self.values["at"])

    @property
    def where(self) -> str:
        """What people call it, with its aim and its radius."""
        readout, at = self.aim
        place = f"t = {at}" if readout == "timestep" else readout
        return f"{attack_label(self.values)} on {place}, epsilon {radius(self.ball[1], self.ball[0])}"

    def survivors(self, timestep: int | None = None) -> "pd.Series[bool]":
        """By image, whether it is right under the attack, of the attacked images, at the aimed timestep or another.

        For other readouts than a timestep, whether the attack did not reach its goal.
        """
        part = self.rows[self.rows["attacked"]]
        if timestep is None and (self.values["readout"] != "timestep" or self.values["source"]):
            return ~part.drop_duplicates("image").set_index("image")["success"]
        step = int(self.values["at"]) if timestep is None else timestep
        return part[part["timestep"] == step].set_index("image")["correct"].astype(bool)


class _Cells:
    """The attacked conditions of a suite."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.main = main_attack(rows)
        self.all = [
            _Condition({str(k): v for k, v in part.iloc[0].to_dict().items()}, part)
            for _, part in rows.groupby("cell", sort=False, observed=True)
        ]

    def having(self, *roles: str) -> list[_Condition]:
        """The conditions of some roles, crafted on the network itself."""
        return [one for one in self.all if one.role in roles and not one.source]

    def main_cells(self) -> list[_Condition]:
        """The conditions of the suite's main attack."""
        return [one for one in self.having("attack") if one.label == self.main]

    def partner(self, other: _Condition) -> _Condition | None:
        """The main attack's condition on the same readout and ball."""
        for main in self.main_cells():
            if main.ball == other.ball and main.aim == other.aim and main.cell != other.cell:
                return main
        return None

    def left(self, ball: tuple[str, float], timestep: int, conditions: Iterable[_Condition]) -> "pd.Series[bool]":
        """By image, what some conditions of a ball left at a timestep, of the images attacked by all of them."""
        parts = [one.survivors(timestep) for one in conditions if one.ball == ball]
        if not parts:
            return pd.Series(dtype=bool)
        return pd.concat(parts, axis=1, join="inner").all(axis=1)


_Pair = tuple[int, int, str]  # images that go the wrong way, images, where


def _apart(strong: "pd.Series[bool]", weak: "pd.Series[bool]") -> tuple[int, int, int]:
    """(images that the weaker breaks alone, images that the stronger breaks alone, number that both attacked)."""
    both = pd.concat([strong, weak], axis=1, join="inner")
    if both.empty:
        return 0, 0, 0
    first, second = both.iloc[:, 0].astype(bool), both.iloc[:, 1].astype(bool)
    return int((first & ~second).sum()), int((~first & second).sum()), len(both)


def _net(strong: "pd.Series[bool]", weak: "pd.Series[bool]") -> tuple[int, int]:
    """(net number of images that the weaker breaks and the stronger does not, number of images both attacked)."""
    weaker_alone, stronger_alone, n = _apart(strong, weak)
    return weaker_alone - stronger_alone, n


def _verdict(wrong: int, n: int) -> Verdict:
    if wrong <= max(1, SUSPICIOUS * n):
        return "ok"
    return "failed" if wrong > max(2, FAILED * n) else "suspicious"


def _worst(name: str, question: str, found: list[_Pair], absent: str, subject: str) -> Check:
    """The comparison that goes most the wrong way. `subject`: who breaks them."""
    planned, found = found, [entry for entry in found if entry[1] > 0]
    if not found:
        return Check(name, question, NOBODY if planned else absent, "not run")
    wrong, n, where = max(found, key=lambda entry: (entry[0] / entry[1], entry[1]))
    count = "1 comparison" if len(found) == 1 else f"{len(found)} comparisons"
    says = f"{subject} {abs(wrong)} {'fewer' if wrong < 0 else 'more'} of {n} images ({where}); worst of {count}"
    return Check(name, question, says, _verdict(wrong, n))


def _place(probes: pd.DataFrame) -> "pd.Series[str]":
    return "t = " + probes["at"].astype(str) if "at" in probes else probes["cell"].astype(str)


def _flag(probes: pd.DataFrame, flag: str, question: str, bad: Verdict) -> Check:
    names = {"zero_gradient": "zero gradient", "quantised": "quantised input"}
    column, name = f"probe_{flag}", names.get(flag, flag)
    if column not in probes or probes.empty:
        return Check(name, question, "no probe in the suite", "not run")
    hits = [
        (int(part[column].astype(bool).sum()), len(part), str(place))
        for place, part in probes.groupby(_place(probes), observed=True)
    ]
    count, n, where = max(hits, key=lambda hit: hit[0] / hit[1])
    verdict: Verdict = "ok" if count == 0 else bad if count > FAILED * n else "suspicious"
    return Check(name, question, f"{count} of {n} images ({where})", verdict)


def _gradients(probes: pd.DataFrame) -> Check:
    name, question = "exact gradient", "gradients agree with finite differences of what the network computes"
    if "probe_gradient_error" not in probes or probes.empty:
        return Check(name, question, "no probe in the suite", "not run")
    errors = probes.groupby(_place(probes))["probe_gradient_error"].median()
    error = float(errors.max())
    verdict: Verdict = "ok" if error < GRADIENT_OK else "suspicious" if error < GRADIENT_FAILED else "failed"
    return Check(name, question, f"median relative error {error:.2g} ({errors.idxmax()})", verdict)


def _losses_agree(probes: pd.DataFrame) -> Check:
    name, question = "losses agree", "gradients of cross-entropy and margin point the same way"
    if "probe_loss_cosine" not in probes or probes.empty:
        return Check(name, question, "no probe in the suite", "not run")
    cosines = probes.groupby(_place(probes))["probe_loss_cosine"].median()
    cosine = float(cosines.min())
    verdict: Verdict = "ok" if cosine >= COSINE_OK else "suspicious" if cosine >= COSINE_FAILED else "failed"
    return Check(name, question, f"median cosine {cosine:.2f} ({cosines.idxmin()})", verdict)


def _strong(cells: _Cells) -> Check:
    """The independent strong attack on what the suite's own attacks left."""
    name, question = "strong attack", "points that an independent strong attack takes off what the attacks left"
    found: list[tuple[float, int, int, str]] = []
    planned = False
    for strong in cells.having("strong"):
        others = [one for one in cells.having("attack") if one.ball == strong.ball and one.aim == strong.aim]
        if strong.readout != "timestep" or not others:
            continue
        planned = True
        left = cells.left(strong.ball, strong.at, others)
        fresh, _, n = _apart(left, strong.survivors(strong.at))
        if n:
            found.append((fresh / n, fresh, n, strong.where))
    if not found:
        return Check(name, question, NOBODY if planned else "no strong attack in the suite", "not run")
    share, fresh, n, where = max(found)
    verdict: Verdict = "failed" if share >= STRONG else "ok"
    return Check(name, question, f"{100 * share:.1f} points, {fresh} of {n} images ({where})", verdict)


def _converged(cells: _Cells) -> Check:
    """More steps and starts must change nothing, in either direction: what only the shorter breaks is luck as well."""
    found = []
    for longer in cells.having("converged"):
        main = cells.partner(longer)
        if main is not None and longer.loss == main.loss:
            fresh, lost, n = _apart(main.survivors(), longer.survivors())
            found.append((max(fresh, lost), n, f"{longer.where}: {fresh} it alone, {lost} the shorter alone"))
    question = "images that change sides with more steps or starts, the larger of the two directions"
    return _worst("converged", question, found, "no attack with more steps in the suite", "one alone breaks")


def _both_losses(cells: _Cells) -> Check:
    found = []
    for other in cells.having("converged", "comparison"):
        main = cells.partner(other)
        if main is not None and other.loss != main.loss and other.loss and main.loss:
            fresh, _, n = _apart(main.survivors(), other.survivors())
            found.append((fresh, n, other.where))
    question = "images that the same attack on another loss breaks, and the main one does not"
    return _worst("both losses", question, found, "one loss only", "the other loss breaks")


def _flat(cells: _Cells) -> Check:
    """Of the images that an attack failed on: what it gained in the second half of its steps."""
    name, question = "curves are flat", "share of the gain in the second half of the steps, of attacks that failed"
    found = []
    for one in cells.main_cells():
        if not {"gap", "gap_first", "gap_half"} <= set(one.rows):
            continue
        rows = one.rows[one.rows["attacked"] & ~one.rows["success"]].drop_duplicates("image")
        gain = rows["gap"] - rows["gap_first"]
        rows, gain = rows[gain > 0], gain[gain > 0]
        if len(rows):
            found.append((float(((rows["gap"] - rows["gap_half"]) / gain).median()), len(rows), one.where))
    if not found:
        return Check(name, question, "no attack of one's own that failed on an image", "not run")
    share, n, where = max(found)
    verdict: Verdict = "ok" if share <= FLAT_OK else "suspicious" if share <= FLAT_FAILED else "failed"
    return Check(name, question, f"median {100 * share:.0f} % over {n} images ({where})", verdict)


def _weaker(cells: _Cells, knowledge: str, name: str, question: str) -> Check:
    """Attacks that know less against the main attack on the same readout and ball, transfer at its timestep."""
    if any(main.knowledge == knowledge for main in cells.main_cells()):
        return Check(name, question + " (net)", "no white-box attack in the suite", "not run")
    found = []
    for weak in cells.all:
        if weak.knowledge != knowledge:
            continue
        for main in cells.main_cells():
            if main.ball != weak.ball:
                continue
            if knowledge == "transfer" and main.readout == "timestep":
                found.append((*_net(main.survivors(), weak.survivors(main.at)), weak.where))
            elif main.aim == weak.aim:
                found.append((*_net(main.survivors(), weak.survivors()), weak.where))
    return _worst(name, question + " (net)", found, f"no {knowledge} attack in the suite", f"{knowledge} breaks")


def _strongest(cells: _Cells) -> Check:
    """The main attack against the suite's other white-box attacks on the same readout and ball, such as AutoAttack."""
    found = []
    for other in cells.having("attack"):
        main = cells.partner(other)
        if other.knowledge == "white-box" and other.label != cells.main and main is not None:
            found.append((*_net(main.survivors(), other.survivors()), other.where))
    question = "images that another white-box attack breaks and the main one does not (net)"
    return _worst("strongest white-box", question, found, "one white-box attack only", "another attack breaks")


def _monotone(cells: _Cells) -> Check:
    found = []
    series: dict[tuple[str, tuple[str, int]], list[_Condition]] = {}
    for one in cells.main_cells():
        series.setdefault((str(one.norm), one.aim), []).append(one)
    for conditions in series.values():
        for low, high in pairwise(sorted(conditions, key=lambda one: one.ball[1])):
            where = f"{low.where} to {radius(high.ball[1], high.ball[0])}"
            found.append((*_net(high.survivors(), low.survivors()), where))
    question = "images that a larger radius wins back (net)"
    return _worst("monotone in epsilon", question, found, "one epsilon only", "the smaller radius breaks")


def _large(cells: _Cells) -> Check:
    name, question = "breaks all at a large epsilon", "accuracy of attacked images at a radius that leaves no chance"
    found = [(one.survivors(), one) for one in cells.having("large")]
    shares = [(float(right.mean()), len(right), one.where) for right, one in found if len(right)]
    if not shares:
        return Check(name, question, NOBODY if found else "no attack at a large radius in the suite", "not run")
    left, n, where = max(shares)
    verdict: Verdict = "ok" if left <= LEFT else "suspicious" if left <= max(0.1, 1 / n) else "failed"
    return Check(name, question, f"{100 * left:.1f} % of {n} images left ({where})", verdict)


def _square(cells: _Cells, yardstick: _Cells) -> Check:
    """Of the images that every white-box attack of the ball left, those that a gradient-free one breaks.

    An attack that breaks next to nothing, on the undefended baseline too, has too few queries to fail anything.
    """
    name, question = "Square after white-box", "points that gradient-free attacks take off the white-box worst case"
    found: list[tuple[float, int, int, str]] = []
    weak: list[str] = []
    planned = False
    for blind in [one for one in cells.all if one.knowledge == "gradient-free" and one.readout == "timestep"]:
        white = [one for one in cells.having("attack") if one.knowledge == "white-box" and one.ball == blind.ball]
        white = [one for one in white if one.aim == blind.aim]
        if not white:
            continue
        planned = True
        power = _power(blind, yardstick)
        if power is not None and power < POWER:
            weak.append(f"{blind.where}: it breaks {100 * power:.1f} % of the baseline's images; give it more queries")
            continue
        fresh, _, n = _apart(cells.left(blind.ball, blind.at, white), blind.survivors())
        if n:
            found.append((fresh / n, fresh, n, blind.where))
    if not found:
        absent = "no gradient-free attack in the suite on the ball of another"
        return Check(name, question, weak[0] if weak else NOBODY if planned else absent, "not run")
    share, fresh, n, where = max(found)
    verdict: Verdict = "ok" if share <= SQUARE else "failed" if fresh > max(1, FAILED * n) else "suspicious"
    return Check(name, question, f"{100 * share:.1f} points, {fresh} of {n} images ({where})", verdict)


def _power(blind: _Condition, yardstick: _Cells) -> float | None:
    """What the same attack breaks of the yardstick's attacked images; None where it was not run there."""
    wanted = (blind.label, blind.ball)
    alike = [one for one in yardstick.all if (one.label, one.ball) == wanted]
    shares = [1 - float(one.survivors().mean()) for one in alike if len(one.survivors())]
    return max(shares, default=None)


def _other_timesteps(cells: _Cells) -> Check:
    """Transfer between timesteps: an attack on another timestep must not beat the attack on the judged one."""
    found = []
    main = [one for one in cells.main_cells() if one.readout == "timestep"]
    for own in main:
        for other in main:
            if other.aim != own.aim and other.ball == own.ball:
                where = f"{other.where}, judged at t = {own.at}"
                found.append((*_net(own.survivors(), other.survivors(own.at)), where))
    question = "images that an attack on another timestep breaks and the one on the judged does not (net)"
    return _worst("beats other timesteps", question, found, "one attacked timestep only", "the other timestep breaks")


def _noise(cells: _Cells, noise: pd.DataFrame) -> Check:
    """Random noise against every attack of the same norm and radius, at the attacked timestep."""
    found = []
    for one in cells.all:
        if one.readout != "timestep" or one.source:
            continue
        same = noise[(noise["severity"] == one.ball[1]) & (noise["timestep"] == one.at)]
        same = same[same["norm"] == one.ball[0]] if len(same) else same
        for name, part in same.groupby("perturbation", observed=True):
            random = part.set_index("image")["correct"].astype(bool)
            found.append((*_net(one.survivors(), random), f"{name} against {one.where}"))
    question = "images that random noise of the same norm breaks and an attack does not (net)"
    return _worst("beats random noise", question, found, "no noise of an attack's norm in the suite", "noise breaks")


def _other_gradients(cells: _Cells, probes: pd.DataFrame) -> Check:
    """Other gradients and objectives on the same readout and ball: does one beat the exact one of the last answer?"""
    name = "other gradients and objectives"
    question = "images that another gradient or objective breaks and the main attack does not (net)"
    found = []
    for other in cells.having("comparison"):
        main = cells.partner(other)
        if main is not None and (other.gradient, other.objective) != (main.gradient, main.objective):
            found.append((*_net(main.survivors(), other.survivors()), other.where))
    check = _worst(name, question, found, "none in the suite, or the model has only one", "the other one breaks")
    if check.verdict == "not run" or "probe_truncation_cosine" not in probes:
        return check
    if probes["probe_truncation_cosine"].notna().any():
        cosine = probes.groupby(_place(probes))["probe_truncation_cosine"].median().min()
        figure = f"{check.figure}; median cosine of the exact and the truncated gradient {cosine:.4f}"
        return Check(name, question, figure, check.verdict)
    return check


def strongest_by_condition(records: pd.DataFrame) -> pd.DataFrame:
    """Which attack was strongest on each readout and ball: what each leaves of the images it attacked.

    Args:
        records: of one model and suite.

    Returns:
        A row for each condition crafted on the network itself: norm, epsilon, readout, at, label, role, n, left; the
        strongest of each readout and ball first.
    """
    cells = _Cells(attack_records(records))
    rows = [
        (*one.ball, *one.aim, attack_label(one.values), one.role, len(right), int(right.sum()))
        for one in cells.all
        if not one.source
        for right in [one.survivors()]
    ]
    columns = ["norm", "epsilon", "readout", "at", "label", "role", "n", "left"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(["norm", "epsilon", "readout", "at", "left"], kind="stable", ignore_index=True)
