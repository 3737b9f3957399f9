"""Which runs can be compared, and what their models are called in a comparison."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from shlex import join

from pcbench.analysis.answers import Answers, every
from pcbench.analysis.comparison import Question, questions, systems
from pcbench.errors import UserError
from pcbench.results.load import Results, Run, load_results

DIFFERENCES = ("images", "seed", "source", "incomplete")


def open_runs(directories: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The runs in some directories, each once, and one line for each that could not be opened."""
    runs: dict[Path, Run] = {}
    problems: list[str] = []
    for directory in directories:
        found: Results = load_results(directory)
        runs |= {run.directory.resolve(): run for run in found.runs}
        problems += found.problems
    return list(runs.values()), problems


def check_comparable(runs: Sequence[Run], despite: Collection[str] = ()) -> list[str]:
    """What differs between runs besides their models.

    Args:
        runs: at least one.
        despite: which of `DIFFERENCES` are accepted.

    Returns:
        One line for each difference that is accepted.

    Raises:
        UserError: a difference that is not; it names all of them, and the option that accepts each.
    """
    found: list[tuple[str, str]] = []
    for run in runs:
        if run.info.status != "complete":
            again = join(run.info.command) or "the command that made it"
            found.append(
                (
                    "incomplete",
                    f"{run.directory} is {run.info.status} ({run.missing} cells missing); finish it with: {again}",
                )
            )
    first = runs[0]
    for run in runs[1:]:
        pair = f"{first.directory} and {run.directory}"
        ours, theirs = first.info, run.info
        if ours.data.fingerprint != theirs.data.fingerprint:
            found.append(
                (
                    "images",
                    f"{pair} used different images: {ours.data.name}, {ours.data.n}, and "
                    f"{theirs.data.name}, {theirs.data.n}",
                )
            )
        if ours.seed != theirs.seed:
            found.append(("seed", f"{pair} have different seeds: {ours.seed} and {theirs.seed}"))
        for key in ("options", "overrides"):
            one, two = ours.arguments.get(key) or {}, theirs.arguments.get(key) or {}
            if one != two:
                found.append(("source", f"{pair} were perturbed in different ways: {one} and {two}"))
        digests = {suite.name: (suite.version, suite.digest) for suite in ours.suites}
        for suite in theirs.suites:
            if digests.get(suite.name, (suite.version, suite.digest)) != (suite.version, suite.digest):
                found.append(("source", f"{pair} have different versions of suite {suite.name}"))
    refused = [(kind, line) for kind, line in found if kind not in despite]
    if refused:
        options = " ".join(f"--despite {kind}" for kind in dict.fromkeys(kind for kind, _ in refused))
        raise UserError(f"{'; '.join(line for _, line in refused)}; to compare all the same: {options}")
    return [line for _, line in found]


def named_answers(runs: Sequence[Run], suites: Sequence[str] = ()) -> dict[str, list[tuple[str, Answers]]]:
    """Suite -> (label, answers) of each model. The label is the model's name, with the weights or the run where needed.

    Raises:
        UserError: no suite is left, or a suite that was asked for is in none of the runs.
    """
    entries = [(run, found) for run in runs if not run.records.empty for found in every(run.records)]
    known = list(dict.fromkeys(found.name[3] for _, found in entries))
    for suite in suites:
        if suite not in known:
            raise UserError(f"no records of suite {suite!r} in these runs; they have: {', '.join(known) or 'none'}")
    names = names_of(runs)
    per_suite: dict[str, list[tuple[str, Answers]]] = {}
    for suite in suites or known:
        here = [(run, found) for run, found in entries if found.name[3] == suite]
        models = Counter(found.model for _, found in here)
        pairs = Counter(found.name[:2] for _, found in here)
        named = []
        for run, found in here:
            label = found.model
            if models[found.model] > 1:
                label += f" [{found.name[1]}]" if pairs[found.name[:2]] == 1 else f" ({names[run.directory]})"
            named.append((label, found))
        labels = [label for label, _ in named]
        if len(set(labels)) < len(labels):
            named = [(f"{found.model} ({run.directory})", found) for run, found in here]
        per_suite[suite] = named
    return per_suite


def names_of(runs: Sequence[Run]) -> dict[Path, str]:
    """Directory -> name of a run: its last folder, with as many above it as tell it from the other runs."""
    paths = {run.directory: run.directory.resolve().parts for run in runs}
    names = {}
    for directory, parts in paths.items():
        others = [other for other in set(paths.values()) if other != parts]
        depth = next(n for n in range(1, len(parts) + 1) if all(other[-n:] != parts[-n:] for other in others))
        names[directory] = "/".join(parts[-depth:])
    return names


def baselines_of(named: Sequence[tuple[str, Answers]], runs: Sequence[Run]) -> dict[str, str | None]:
    """Label -> label of the model that a model names as its baseline, where that is among the named."""
    declared: Mapping[str, str | None] = {model.name: model.baseline for run in runs for model in run.info.models}
    by_model: dict[str, str] = {}
    for label, found in named:
        by_model.setdefault(found.model, label)
    return {label: by_model.get(declared.get(found.model) or "") for label, found in named}


def compare(runs: Sequence[Run], baseline: str | None = None, suites: Sequence[str] = ()) -> list[Question]:
    """All the questions that some runs answer, suite by suite: see `comparison.questions`.

    Raises:
        UserError: nothing to compare, or a baseline that none of the runs has.
    """
    result: list[Question] = []
    for named in named_answers(runs, suites).values():
        result += questions(systems(named), baselines_of(named, runs), baseline)
    if all(run.records.empty for run in runs):
        why = next((f": {problem}" for run in runs for problem in run.problems), "")
        raise UserError(f"there is nothing to compare: no records{why}")
    if not result:
        raise UserError("there is nothing to compare: one model without dynamics; name a second run, one of a baseline")
    return result
