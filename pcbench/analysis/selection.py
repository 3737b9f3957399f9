"""Which systems can be set side by side, and what each is to be compared with. All by keys."""

from collections.abc import Callable, Collection, Mapping, Sequence

from pcbench.analysis.answers import Answers
from pcbench.errors import UserError
from pcbench.results.study import Study, System

# What has to be the same of two systems, and the word that accepts a difference.
_SAME: dict[str, Callable[[System], object]] = {
    "images": lambda system: (system.data.fingerprint, system.data.n),
    "seed": lambda system: system.seed,
    "dtype": lambda system: system.dtype,
    "settings": lambda system: system.settings,
    "code": lambda system: system.numerics,
}
DIFFERENCES = (*_SAME, "source", "incomplete")
_SHOWN: dict[str, Callable[[System], str]] = {
    "images": lambda system: f"{system.data.name}, {system.data.n} images ({system.data.fingerprint[:6]})",
    "seed": lambda system: f"seed {system.seed}",
    "dtype": lambda system: system.dtype,
    "settings": lambda system: ", ".join(f"{name}={value}" for name, value in system.settings) or "plain settings",
    "code": lambda system: f"numerics {system.numerics}",
}


def check_complete(study: Study, despite: Collection[str] = ()) -> list[str]:
    """One line for each request whose cells are not all there. Raises UserError where that is not accepted."""
    lines = []
    for placed in study.requests:
        status = study.status_of(placed)
        if status != "complete":
            there = {cell.key.digest for cell in study.cells}
            missing = sum(digest not in there for digest in placed.request.cells)
            lines.append(f"{placed.directory} is {status} ({missing} of {len(placed.request.cells)} cells missing)")
    if lines and "incomplete" not in despite:
        why = f" ({study.problems[0]})" if study.problems else ""
        raise UserError(
            f"{'; '.join(lines)}{why}; finish it (pcbench results says how), or compare all the same: "
            "--despite incomplete"
        )
    return lines


def comparable(found: Sequence[Answers], despite: Collection[str] = ()) -> list[list[Answers]]:
    """The answers in groups that can be set side by side: of the same images, seed, precision, settings and code."""
    groups: dict[tuple[object, ...], list[Answers]] = {}
    for answers in found:
        place = tuple(read(answers.system) for name, read in _SAME.items() if name not in despite)
        groups.setdefault(place, []).append(answers)
    return list(groups.values())


def differences(found: Sequence[Answers], despite: Collection[str] = ()) -> list[str]:
    """One line for each thing that keeps systems apart, or did not because that was accepted."""
    lines = []
    for name, read in _SAME.items():
        shown = dict.fromkeys((read(answers.system), _SHOWN[name](answers.system)) for answers in found)
        if len(shown) < 2:
            continue
        what = "; ".join(text for _, text in list(shown)[:4])
        if name in despite:
            lines.append(f"systems of different {name} are compared: {what}")
        else:
            lines.append(f"systems of different {name} are compared apart ({what}); together: --despite {name}")
    devices = {str(device) for answers in found for device in answers.devices}
    if len(devices) > 1:
        lines.append(f"computed on different devices, which may round differently: {', '.join(sorted(devices))}")
    return lines


def unclean(study: Study) -> list[str]:
    """One line where cells were computed by code that no commit tells: with changes, or of an unknown one."""
    dirty = unknown = 0
    for cell in study.cells:
        found = cell.provenance.get("git")
        git = found if isinstance(found, Mapping) else {}
        dirty += bool(git.get("commit") and git.get("dirty"))
        unknown += not git.get("commit")
    parts = [
        *([f"{dirty} are from a checkout with uncommitted changes"] if dirty else []),
        *([f"{unknown} are from code of an unknown commit"] if unknown else []),
    ]
    return [f"of {len(study.cells)} cells, {' and '.join(parts)}"] if parts else []


def baseline_of(answers: Answers, among: Sequence[Answers]) -> Answers | None:
    """The answers of the very network, with the very weights, that a system names as its baseline.

    Of several (other seeds, another precision, where that was accepted) the one that is most alike.
    """
    wanted = answers.system.model.baseline
    found = [other for other in among if wanted is not None and other.system.model == wanted]

    def unlike(other: Answers) -> int:
        return sum(read(other.system) != read(answers.system) for read in _SAME.values())

    return min(found, key=unlike, default=None)
