"""A comparison in sentences: the answer first, with the conditions that it is about."""

from collections.abc import Sequence
from typing import get_args

import pandas as pd

from pcbench.analysis.comparison import OVERALL, Question
from pcbench.analysis.headline import AREA, CLEAN
from pcbench.analysis.verdicts import SAME, Word

_WORDS = get_args(Word)


def verdicts(question: Question, timesteps: Sequence[int] | None = None) -> list[str]:
    """The plain answer at some timesteps: of the mean, of what neither chance nor a trade decides, of perturbations.

    Args:
        question: what was asked.
        timesteps: at which; None for the last.
    """
    lines = []
    for t in question.timesteps[-1:] if timesteps is None else timesteps:
        if t not in question.timesteps:
            continue
        where = f"at t = {t}"
        head = f"{question.system} against {question.against}, {question.suite}"
        table = question.table[question.table["timestep"] == t]
        overall = table[table["level"] == "overall"].iloc[0]
        if overall["verdict"] in _WORDS:
            lines.append(f"{head}: {question.at(t, OVERALL).sentence(where=where)} ({question.scope})")
        else:
            lines.append(f"{head}: {overall['verdict']} {where} ({question.scope})")
        lines += _summaries(question, t)
        each = table[table["level"] == "perturbation"]
        if len(each) > 1:
            lines.append(f"  {where}, of {len(each)} perturbations " + ", ".join(_counts(each)))
    return lines


def _summaries(question: Question, t: int) -> list[str]:
    if question.headline.empty:
        return []
    places = {CLEAN: "on clean images", AREA: "over strengths where the baseline is above chance"}
    rows = question.headline[question.headline["timestep"] == t].to_dict("records")
    return [
        f"  {places[row['measure']]}: {row['sentence']} ({row['conditions']})"
        for row in rows
        if row["measure"] in places
    ]


def _counts(table: pd.DataFrame) -> list[str]:
    found = []
    for word in (*_WORDS, SAME):
        names = table.loc[table["verdict"] == word, "perturbation"].tolist()
        if word in ("better", "worse", "no difference shown") or names:
            shown = _names(names) if word in ("better", "worse") else ""
            found.append(f"{word} in {len(names)}{shown}")
    return found


def _names(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f" ({', '.join(names[:4])}{more})"
