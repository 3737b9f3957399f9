"""`pcbench.compare`: the questions that some results answer, asked and answered in the words of the command line."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pcbench.analysis.answers import Answers, every
from pcbench.analysis.comparison import OVERALL, Measured, Question, Side, ask, family_of, measure, pairs, systems
from pcbench.analysis.headline import clean_answers, headline
from pcbench.analysis.power import images_needed
from pcbench.analysis.selection import baseline_of, check_complete, comparable, differences, unclean
from pcbench.analysis.wording import verdicts
from pcbench.errors import UserError, did_you_mean
from pcbench.intervals import LEVEL
from pcbench.results.study import Study, System, load_results

LEVELS = ("overall", "perturbation", "condition")


@dataclass(frozen=True)
class Comparison:
    """Questions and their answers. Printed, it is the sentences.

    Attributes:
        questions: one for each pair of systems and suite.
        notes: what a reader must know of the whole.
        timesteps: that were asked for; None where the last of each was.
        power: a row for each question and timestep where `power` was asked for: images that would show the difference.
    """

    questions: list[Question]
    notes: list[str]
    timesteps: list[int] | None = None
    power: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def sentences(self) -> list[str]:
        """The plain answers."""
        lines: list[str] = []
        before: Question | None = None
        for question in self.questions:
            said = verdicts(question, self.timesteps)
            # A network's t = 0 may be its baseline, image by image: what follows is not said twice.
            lines += [line for line in said if not line.startswith(" ")] if question.repeats(before) else said
            before = question
        return lines + [_images_line(row) for row in self.power.to_dict("records")]

    @property
    def table(self) -> pd.DataFrame:
        """All rows of all questions, in percent and points: see `pcbench.analysis.comparison.ask`."""
        return pd.concat([question.table for question in self.questions], ignore_index=True)

    @property
    def headline(self) -> pd.DataFrame:
        """The summaries of all questions: see `pcbench.analysis.headline`."""
        return _named((question, question.headline) for question in self.questions)

    @property
    def corruption_errors(self) -> pd.DataFrame:
        """Of each question, mCE and ratios of errors: see `pcbench.analysis.corruption_errors`."""
        return _named((question, question.corruption_errors) for question in self.questions)

    def to_json(self) -> str:
        """All of it as JSON; numbers that are not there are null."""
        tables = {
            "headline": self.headline.drop(columns="sentence", errors="ignore"),
            "rows": self.table,
            "corruption_errors": self.corruption_errors,
            "power": self.power,
        }
        whole: dict[str, Any] = {
            "answers": [line.strip() for line in self.sentences],
            "notes": self.notes,
            "questions": [
                {"suite": each.suite, "system": each.system, "against": each.against, "notes": each.notes}
                for each in self.questions
            ],
        }
        whole |= {name: json.loads(each.to_json(orient="records")) for name, each in tables.items()}
        return json.dumps(whole, indent=1, ensure_ascii=False)

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def _named(parts: Iterable[tuple[Question, pd.DataFrame]]) -> pd.DataFrame:
    found = [
        table.assign(suite=question.suite, system=question.system, against=question.against)
        for question, table in parts
        if not table.empty
    ]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def compare(
    *results: Study | str | Path,
    baseline: str | None = None,
    model: str | Sequence[str] = (),
    suite: str | Sequence[str] = (),
    perturbation: str | Sequence[str] = (),
    timestep: int | Sequence[int] | None = None,
    margin: float | None = None,
    family: bool = False,
    power: float | None = None,
    despite: str | Collection[str] = (),
) -> Comparison:
    """Compare systems on the same images: each against its own t = 0, and against its baseline.

    Args:
        results: directories of results, or one study.
        baseline: label of a system to compare all others with, instead of the one that each names.
        model: only questions about these (labels, or names without options); with a baseline, against that alone.
        suite: only these.
        perturbation: only these; the mean and the family of tests are then over them alone.
        timestep: only these; the tests of other timesteps are then no part of the family.
        margin: within which two systems count as equivalent, in points (percent of images); None to claim none.
        family: correct over all questions together, not over each by itself.
        power: a difference in points; `Comparison.power` says how many images would show it.
        despite: differences (`pcbench.analysis.selection.DIFFERENCES`) that are accepted.

    Raises:
        UserError: nothing to compare, or a name, timestep or margin that there is not.

    >>> import pcbench
    >>> print(pcbench.compare("runs", model="pvgg16-cifar", baseline="vgg16-cifar", perturbation="fog",
    ...                       timestep=3))  # doctest: +SKIP
    pvgg16-cifar against vgg16-cifar, cifar-c: better at t = 3 by 1.9 points [0.4, 3.4], p = 0.012 (fog, ...)
    """
    for name, value in (("margin", margin), ("difference to be shown", power)):
        if value is not None and not 0 < value < 100:
            raise UserError(f"a {name} is a number of points between 0 and 100, not {value:g}")
    whole = _study(results)
    models, suites, names, accepted = (_several(each) for each in (model, suite, perturbation, despite))
    timesteps = [timestep] if isinstance(timestep, int) else None if timestep is None else sorted(set(timestep))
    notes = [*check_complete(whole, accepted), *unclean(whole)]
    study = whole.select(perturbation=names) if names else whole
    measured: list[Measured] = []
    beside: list[Sequence[Side]] = []
    untold: set[System] = set()
    labels_there: dict[str, None] = {}
    refused: list[str] = []
    for found in every(study, suites=suites).values():
        notes += [line for line in differences(found, accepted) if line not in notes]
        labels_there |= dict.fromkeys(answers.label for answers in found)
        for group in comparable(found, accepted):
            named = {each.label: other.label if (other := baseline_of(each, group)) else None for each in group}
            if baseline is None:
                notes += _without_baseline(group, named, untold)
            elif baseline not in named:
                if baseline not in [answers.label for answers in found]:
                    known = [answers.label for answers in found]
                    raise UserError(f"no model {baseline!r} to compare with; {did_you_mean(baseline, known)}")
                continue  # it is in another group, which the notes tell
            sides = systems(group, loosely="source" in accepted)
            for pair in pairs(sides, named, baseline):
                if models and not _is(pair[0], models):
                    continue
                if models and baseline is not None and pair[1].label != baseline:
                    continue  # one was asked about against another: not about its own start
                try:
                    measured.append(measure(*pair, timesteps))
                except UserError as error:
                    refused.append(str(error))
                    continue
                beside.append(sides)
    if not whole.cells:
        why = f": {whole.problems[0]}" if whole.problems else ""
        raise UserError(f"there is nothing to compare: no records{why}")
    if refused and not measured:
        raise UserError(refused[0])
    notes += refused
    for wanted in models:
        if not any(_is(each.system, [wanted]) for each in measured):
            raise UserError(f"nothing is asked about a model {wanted!r}; {did_you_mean(wanted, labels_there)}")
    if not measured:
        raise UserError(
            "there is nothing to compare: one model without dynamics; name further results, those of a baseline"
            + "".join(f"; {note}" for note in notes)
        )
    fraction = None if margin is None else margin / 100
    families = {level: family_of(level, measured) for level in LEVELS} if family else None
    clean = clean_answers(whole)
    questions = [
        ask(each, fraction, families, headline(each, clean, sides, timesteps, fraction))
        for each, sides in zip(measured, beside, strict=True)
    ]
    if power is None:
        return Comparison(questions, notes, timesteps)
    rows = [
        row for each, asked in zip(measured, questions, strict=True) for row in _power(each, asked, power, timesteps)
    ]
    return Comparison(questions, notes, timesteps, pd.DataFrame(rows))


def _study(results: Sequence[Study | str | Path]) -> Study:
    if len(results) == 1 and isinstance(results[0], Study):
        return results[0]
    return load_results(*[_directory(each) for each in results])


def _directory(each: Study | str | Path) -> str | Path:
    if isinstance(each, Study):
        raise UserError("compare one study, or directories; load_results(DIR, DIR) makes one study of several")
    return each


def _several(value: str | Collection[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _is(side: Side, wanted: Sequence[str]) -> bool:
    model = side.answers.system.model
    return any(name in (side.label, side.answers.full, model.label, model.name) for name in wanted)


def _without_baseline(group: Sequence[Answers], named: Mapping[str, str | None], told: set[System]) -> list[str]:
    lines = []
    for answers in group:
        wanted = answers.system.model.baseline
        if wanted is not None and named[answers.label] is None and answers.system not in told:
            told.add(answers.system)
            lines.append(f"{answers.label}: its baseline {wanted.label} [{wanted.weights}] is not among these results")
    return lines


def _images_line(row: Mapping[Any, Any]) -> str:
    head = f"{row['system']} against {row['against']}, {row['suite']}, t = {row['timestep']}"
    points = f"{row['difference']:g} point{'' if row['difference'] == 1 else 's'}"
    here = f"here are {row['n']:,}, and the two disagree on {row['discordance']:.1f} % of answers"
    if pd.isna(row["images"]):
        return f"{head}: no number of images would show {points}: {here}"
    return f"{head}: {int(row['images']):,} images would show {points} (power 80 %); {here}"


def _power(
    found: Measured, question: Question, points: float, timesteps: Sequence[int] | None
) -> list[dict[str, object]]:
    """How many images would show a difference of the mean, with a probability of 80 %, at the level of its family."""
    together = question.judged[OVERALL].family
    level = together.marginal_level(LEVEL) if together is not None else LEVEL
    differences = found.levels["overall"].differences
    rows: list[dict[str, object]] = []
    for t in question.timesteps[-1:] if timesteps is None else question.timesteps:
        at = 0, question.timesteps.index(t)
        discordance, effect = float(differences.discordance[at]), float(differences.design_effect[at])
        needed = None
        if points / 100 <= discordance:
            needed = images_needed(points / 100, discordance, level=level, design_effect=effect)
        rows.append(
            {
                "suite": question.suite,
                "system": question.system,
                "against": question.against,
                "timestep": t,
                "difference": points,
                "images": needed,
                "n": differences.n,
                "discordance": 100 * discordance,
            }
        )
    return rows
