"""Can one believe an attack's robust accuracies? Sanity checks over the records, each with a figure and a verdict.

The checks are those of the adaptive-attack literature and of AutoAttack's flags: they cannot prove that an attack was
strong, but most attacks that were too weak fail one of them. Comparisons of two attacks are paired by image: they
count the images that the one breaks and the other does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import pandas as pd

from pcbench.analysis.attacks import AttackName, attack_records, main_attack, radius, read_name

Verdict = Literal["ok", "suspicious", "failed", "not run"]

# A net number of images that goes the wrong way is suspicious above the first share of the images and one image (which
# random starts decide), failed above the second share and two images.
SUSPICIOUS, FAILED = 0.01, 0.05
# AutoAttack's flag: Square lowers the accuracy of white-box attacks by more than 0.2 points.
SQUARE = 0.002
# Accuracy that may be left at a large radius; a radius is large from here.
LEFT = 0.02
LARGE = {"linf": 16 / 255, "l2": 3.0, "l0": 1.0}
NOBODY = "no image was attacked: none was right before"
# Relative disagreement of gradient and finite differences, median over images.
GRADIENT_OK, GRADIENT_FAILED = 0.05, 0.2

_BLIND = "judge it by attacks that need no gradients (square, hop-skip-jump) and by transfer"
_SEARCH = "give the attack more steps or restarts, and report the worst case over attacks"
_ADVICE = {
    "randomised": "average over the randomness (samples = 10 in the suite), or fix it",
    "softmax": "let the model return logits",
    "zero gradient": f"gradient attacks see nothing here: {_BLIND}",
    "optimises": f"do gradients pass through the inner optimisation? If not, {_BLIND}",
    "exact gradient": f"gradient attacks overrate it (states are detached, or it jumps, as thresholds do): {_BLIND}",
    "iterative beats single-step": _SEARCH,
    "converged": _SEARCH,
    "strongest white-box": "the main attack overrates the network (losses saturate where it is confident): sweep with "
    "autoattack or apgd-ce, and report the worst case over attacks",
    "monotone in epsilon": _SEARCH,
    "breaks all at a large epsilon": f"either the attack does not work or gradients mislead it: {_BLIND}",
    "Square after white-box": f"gradients mislead: {_BLIND}, and report the worst case over attacks",
    "white-box beats gradient-free": f"gradients mislead: {_BLIND}, and report the worst case over attacks",
    "white-box beats hard-label": f"gradients mislead: {_BLIND}, and report the worst case over attacks",
    "beats other timesteps": "report the worst case over attacked timesteps; is a state detached on the way?",
    "white-box beats transfer": "gradients mislead: report the worst case, transfer included",
    "beats random noise": "the attack is weaker than chance: its accuracies say nothing",
    "exact beats truncated": "attack with both gradients and report the worst case; is the exact one masked?",
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


def believability(records: pd.DataFrame) -> list[Check]:
    """All checks of one model in one suite, in a fixed order.

    Args:
        records: its rows, with the columns that attacks and probes add.
    """
    rows = attack_records(records)
    cells = _Cells(rows)
    noise = records[records["perturbation"].astype(str).str.startswith("noise-")]
    probes = records[records["group"] == "probe"].drop_duplicates(["perturbation", "image"])
    return [
        _flag(probes, "randomised", "answers of the same image differ from pass to pass", "failed"),
        _flag(probes, "softmax", "answers are probabilities, on which losses saturate", "suspicious"),
        _flag(probes, "zero_gradient", "the gradient of the loss is zero or not finite", "failed"),
        _flag(probes, "optimises", "the forward pass takes gradients inside (optimisation at test time)", "suspicious"),
        _gradients(probes),
        _weaker(cells, "single-step", "iterative beats single-step", "images that one step breaks, many do not"),
        _doubled(cells),
        _strongest(cells),
        _monotone(cells),
        _large(cells),
        _square(cells),
        _weaker(cells, "gradient-free", "white-box beats gradient-free", "images broken without gradients alone"),
        _weaker(cells, "hard-label", "white-box beats hard-label", "images broken by labels alone"),
        _other_timesteps(cells),
        _weaker(cells, "transfer", "white-box beats transfer", "images broken from another network alone"),
        _noise(cells, noise, records),
        _truncation(cells, probes),
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


class _Cells:
    """Attacked conditions by name: who was attacked, and who was still right at a timestep."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows
        self.main = main_attack(rows)
        self.names: dict[tuple[str, float], AttackName] = {
            (str(name), float(epsilon)): read_name(str(name))
            for name, epsilon in rows[["perturbation", "severity"]].drop_duplicates().itertuples(index=False)
        }
        self._by_cell = {
            (str(name), float(str(epsilon))): part
            for (name, epsilon), part in rows.groupby(["perturbation", "severity"], sort=False, observed=True)
        }

    def survivors(self, name: str, epsilon: float, timestep: int | None = None) -> "pd.Series[bool]":
        """By image, whether it is right under the attack, of the attacked images, at the attacked timestep or another.

        For "mean" and "worst" readouts, whether the attack did not reach its goal.
        """
        part = self._by_cell[name, epsilon]
        part = part[part["attacked"]]
        step = self.names[name, epsilon].timestep if timestep is None else timestep
        if step is None:
            return ~part.drop_duplicates("image").set_index("image")["success"]
        return part[part["timestep"] == step].set_index("image")["correct"].astype(bool)

    def main_cells(self) -> list[tuple[str, float, AttackName]]:
        """The conditions of the suite's main attack."""
        return [(name, epsilon, read) for (name, epsilon), read in self.names.items() if read.label == self.main]

    def partner(self, read: AttackName, epsilon: float) -> str | None:
        """The main attack's condition on the same readout, radius and norm."""
        for name, size, main in self.main_cells():
            if size == epsilon and main.readout == read.readout and main.norm == read.norm:
                return name
        return None


def _net(stronger: "pd.Series[bool]", weaker: "pd.Series[bool]") -> tuple[int, int]:
    """(net number of images that the weaker breaks and the stronger does not, number of images both attacked)."""
    both = pd.concat([stronger, weaker], axis=1, join="inner")
    if both.empty:
        return 0, 0
    strong, weak = both.iloc[:, 0], both.iloc[:, 1]
    return int(strong.sum()) - int(weak.sum()), len(both)


def _verdict(net: int, n: int) -> Verdict:
    if net <= max(1, SUSPICIOUS * n):
        return "ok"
    return "failed" if net > max(2, FAILED * n) else "suspicious"


def _worst(name: str, question: str, found: list[tuple[int, int, str]], absent: str, subject: str) -> Check:
    """The comparison that goes most the wrong way, of (net images, images, where). `subject`: who breaks them."""
    planned, found = found, [entry for entry in found if entry[1] > 0]
    if not found:
        return Check(name, question, NOBODY if planned else absent, "not run")
    net, n, where = max(found, key=lambda entry: (entry[0] / entry[1], entry[1]))
    return Check(name, question, f"{_breaks(subject, net, n, where)}; worst of {_count(found)}", _verdict(net, n))


def _count(found: list[tuple[int, int, str]]) -> str:
    return "1 comparison" if len(found) == 1 else f"{len(found)} comparisons"


def _breaks(subject: str, net: int, n: int, where: str) -> str:
    return f"{subject} {abs(net)} {'fewer' if net < 0 else 'more'} of {n} images ({where})"


def _where(name: str, epsilon: float) -> str:
    return f"{name}, epsilon {radius(epsilon, read_name(name).norm)}"


def _flag(probes: pd.DataFrame, flag: str, question: str, bad: Verdict) -> Check:
    column, name = f"probe_{flag}", {"zero_gradient": "zero gradient"}.get(flag, flag)
    if column not in probes or probes.empty:
        return Check(name, question, "no probe in the suite", "not run")
    hits = [
        (int(part[column].astype(bool).sum()), len(part), str(probe))
        for probe, part in probes.groupby("perturbation", observed=True)
    ]
    count, n, where = max(hits, key=lambda hit: hit[0] / hit[1])
    verdict: Verdict = "ok" if count == 0 else bad if count > FAILED * n else "suspicious"
    return Check(name, question, f"{count} of {n} images ({where})", verdict)


def _gradients(probes: pd.DataFrame) -> Check:
    name, question = "exact gradient", "gradients agree with finite differences of what the network computes"
    if "probe_gradient_error" not in probes or probes.empty:
        return Check(name, question, "no probe in the suite", "not run")
    errors = probes.groupby("perturbation")["probe_gradient_error"].median()
    error = float(errors.max())
    verdict: Verdict = "ok" if error < GRADIENT_OK else "suspicious" if error < GRADIENT_FAILED else "failed"
    return Check(name, question, f"median relative error {error:.2g} ({errors.idxmax()})", verdict)


def _weaker(cells: _Cells, role: str, name: str, question: str) -> Check:
    """Attacks of a weaker kind against the main attack on the same readout and radius, transfer at its timestep."""
    if any(own.role == role for _, _, own in cells.main_cells()):
        return Check(name, question + " (net)", "no white-box attack in the suite", "not run")
    found = []
    for (label, epsilon), read in cells.names.items():
        if read.role != role:
            continue
        if role == "transfer":
            found += [
                (
                    *_net(cells.survivors(main, size), cells.survivors(label, epsilon, own.timestep)),
                    _where(label, epsilon),
                )
                for main, size, own in cells.main_cells()
                if size == epsilon and own.norm == read.norm and own.timestep is not None
            ]
            continue
        partner = cells.partner(read, epsilon)
        if partner is not None:
            weak = cells.survivors(label, epsilon)
            found.append((*_net(cells.survivors(partner, epsilon), weak), _where(label, epsilon)))
    return _worst(name, question + " (net)", found, f"no {role} attack in the suite", f"{role} breaks")


def _doubled(cells: _Cells) -> Check:
    found = []
    for (label, epsilon), read in cells.names.items():
        partner = cells.partner(read, epsilon)
        if read.variant == "double" and partner is not None:
            doubled, once = cells.survivors(label, epsilon), cells.survivors(partner, epsilon)
            found.append((*_net(once, doubled), _where(label, epsilon)))
    question = "images that the attack with twice the steps breaks besides (net)"
    return _worst("converged", question, found, "no attack with doubled steps in the suite", "doubled steps break")


def _strongest(cells: _Cells) -> Check:
    """The main attack against the other white-box attacks on the same readout and radius, such as AutoAttack."""
    found = []
    for (label, epsilon), read in cells.names.items():
        partner = cells.partner(read, epsilon)
        if read.role == "white-box" and read.variant == "" and read.label != cells.main and partner is not None:
            net, n = _net(cells.survivors(partner, epsilon), cells.survivors(label, epsilon))
            found.append((net, n, _where(label, epsilon)))
    question = "images that another white-box attack breaks and the main one does not (net)"
    return _worst(
        "strongest white-box", question, found, "one white-box attack in each norm only", "another attack breaks"
    )


def _monotone(cells: _Cells) -> Check:
    found = []
    by_readout: dict[str, list[tuple[float, str]]] = {}
    for name, epsilon, read in cells.main_cells():
        by_readout.setdefault(read.readout, []).append((epsilon, name))
    for series in by_readout.values():
        series.sort()
        for (low, first), (high, second) in pairwise(series):
            net, n = _net(cells.survivors(second, high), cells.survivors(first, low))
            found.append((net, n, f"{_where(first, low)} to {radius(high, cells.names[second, high].norm)}"))
    question = "images that a larger radius wins back (net)"
    return _worst("monotone in epsilon", question, found, "one epsilon only", "the smaller radius breaks")


def _large(cells: _Cells) -> Check:
    name, question = "breaks all at a large epsilon", "accuracy of attacked images at a radius that leaves no chance"
    best: tuple[float, float, int, str] | None = None
    planned = False
    for (label, epsilon), read in cells.names.items():
        if read.role != "white-box" or epsilon < LARGE[read.norm]:
            continue
        planned = True
        right = cells.survivors(label, epsilon)
        if len(right) and (best is None or float(right.mean()) > best[0]):
            best = (float(right.mean()), epsilon, len(right), label)
    if best is None:
        limits = ", ".join(f"{norm} {radius(limit, norm)}" for norm, limit in LARGE.items())
        absent = f"no white-box attack at a radius of at least {limits}"
        return Check(name, question, NOBODY if planned else absent, "not run")
    left, epsilon, n, label = best
    verdict: Verdict = "ok" if left <= LEFT else "suspicious" if left <= max(0.1, 1 / n) else "failed"
    return Check(name, question, f"{100 * left:.1f} % of {n} images left ({_where(label, epsilon)})", verdict)


def _square(cells: _Cells) -> Check:
    """Of the images that every white-box attack of the radius left, those that a gradient-free one breaks."""
    name, question = "Square after white-box", "points that gradient-free attacks take off the white-box worst case"
    worst: tuple[float, int, int, str] | None = None
    planned = False
    for (label, epsilon), read in cells.names.items():
        if read.role != "gradient-free":
            continue
        white = [
            cells.survivors(other, size, read.timestep)
            for (other, size), its in cells.names.items()
            if its.role in ("white-box", "single-step") and size == epsilon and its.norm == read.norm
        ]
        if not white:
            continue
        planned = True
        table = pd.concat([*white, cells.survivors(label, epsilon)], axis=1, join="inner")
        if table.empty:
            continue
        left = table.iloc[:, :-1].all(axis=1)
        fresh = int((left & ~table.iloc[:, -1]).sum())
        if worst is None or fresh / len(table) > worst[0]:
            worst = (fresh / len(table), fresh, len(table), _where(label, epsilon))
    if worst is None:
        return Check(name, question, NOBODY if planned else "no gradient-free attack in the suite", "not run")
    share, fresh, n, where = worst
    verdict: Verdict = "ok" if share <= SQUARE else "failed" if fresh > max(1, FAILED * n) else "suspicious"
    return Check(name, question, f"{100 * share:.1f} points, {fresh} of {n} images ({where})", verdict)


def _other_timesteps(cells: _Cells) -> Check:
    """Transfer between timesteps: an attack on another timestep must not beat the attack on the judged one."""
    found = []
    for own, epsilon, read in cells.main_cells():
        for other, size, theirs in cells.main_cells():
            if other == own or size != epsilon or read.timestep is None or theirs.timestep is None:
                continue
            net, n = _net(cells.survivors(own, epsilon), cells.survivors(other, size, read.timestep))
            found.append((net, n, f"{_where(other, epsilon)}, judged at t = {read.timestep}"))
    question = "images that an attack on another timestep breaks and the one on the judged does not (net)"
    return _worst("beats other timesteps", question, found, "one attacked timestep only", "the other timestep breaks")


def _noise(cells: _Cells, noise: pd.DataFrame, records: pd.DataFrame) -> Check:
    """Random noise against every attack of the same norm and radius, at the attacked timestep."""
    found = []
    for (label, epsilon), read in cells.names.items():
        step = read.timestep
        if step is None:
            continue
        same = noise[(noise["severity"] == epsilon) & (noise["timestep"] == step)]
        same = same[same["perturbation"].astype(str).str.endswith(f"-{read.norm}")]
        for name, part in same.groupby("perturbation", observed=True):
            random = part.set_index("image")["correct"].astype(bool)
            net, n = _net(cells.survivors(label, epsilon), random)
            found.append((net, n, f"{name} against {_where(label, epsilon)}"))
    question = "images that random noise of the same norm breaks and an attack does not (net)"
    return _worst("beats random noise", question, found, "no noise of an attack's norm in the suite", "noise breaks")


def _truncation(cells: _Cells, probes: pd.DataFrame) -> Check:
    """How much the published truncation of the gradient flatters the network.

    The variant has the gradient that the run's own attacks do not have.
    """
    name, question = "exact beats truncated", "points by which treating the error gradient as a constant flatters"
    found = []
    for (label, epsilon), read in cells.names.items():
        partner = cells.partner(read, epsilon)
        if read.variant in ("truncated", "exact") and partner is not None:
            pair = cells.survivors(partner, epsilon), cells.survivors(label, epsilon)
            exact, truncated = pair if read.variant == "truncated" else pair[::-1]
            found.append((*_net(exact, truncated), _where(label, epsilon)))
    planned, found = found, [entry for entry in found if entry[1] > 0]
    if not found:
        absent = "no attack with the other gradient in the suite, or the model has only one"
        return Check(name, question, NOBODY if planned else absent, "not run")
    points = ", ".join(f"{-100 * net / n:+.1f} ({-net:+d} of {n} images, {where})" for net, n, where in found)
    if "probe_truncation_cosine" in probes and probes["probe_truncation_cosine"].notna().any():
        cosine = probes.groupby("perturbation", observed=True)["probe_truncation_cosine"].median().min()
        points += f"; median cosine of the two gradients {cosine:.4f}"
    net, n, _ = max(found, key=lambda entry: entry[0] / entry[1])
    return Check(name, question, points, _verdict(net, n))
