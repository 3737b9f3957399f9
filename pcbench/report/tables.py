"""A comparison as tables: one form, written as Markdown and as LaTeX (and by the command line for the terminal)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape

import numpy as np
import pandas as pd

from pcbench.analysis.comparison import Question
from pcbench.analysis.headline import AREA, BEYOND, CLEAN, MATCHED
from pcbench.analysis.humans import WithPeople

LEGEND = (
    "Percent correct. Best timestep of a row: bold, *. In parentheses, grey: difference not significant (corrected "
    "p >= 0.05). The best timestep was found on these same images: choose one on other data than you report."
)


_SHORT = {CLEAN: "clean", AREA: "area", BEYOND: "line", MATCHED: "control"}  # eighty columns hold the headline

LATEX_PACKAGES = r"""% Tables of pcbench compare. The document needs in its preamble:
%   \usepackage{booktabs}
%   \usepackage{xcolor}
"""


@dataclass(frozen=True)
class Cell:
    """One entry: its text, and whether it is the best of its row or not significant."""

    text: str
    best: bool = False
    faint: bool = False

    @property
    def marked(self) -> str:
        """The text with marks that need neither colour nor weight."""
        text = f"({self.text})" if self.faint else self.text
        return f"{text}*" if self.best else text


@dataclass(frozen=True)
class Grid:
    """A table. The first `fixed` columns hold names; a line precedes the rows that `rules` names."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    rules: Sequence[int] = field(default_factory=tuple)
    fixed: int = 1

    def fitting(self, width: int) -> list["Grid"]:
        """The grid, or where it is wider than `width` characters, parts of its columns, the fixed ones in each."""
        widths = [max(len(head), *(len(row[i].marked) for row in self.rows)) + 2 for i, head in enumerate(self.columns)]
        parts: list[list[int]] = [[]]
        left = width - sum(widths[: self.fixed])
        room = left
        for index in range(self.fixed, len(widths)):
            if parts[-1] and widths[index] > room:
                parts.append([])
                room = left
            parts[-1].append(index)
            room -= widths[index]
        kept = list(range(self.fixed))
        return [
            replace(
                self,
                title=self.title if number == 0 else f"{self.title} (continued)",
                columns=[self.columns[i] for i in kept + part],
                rows=[[row[i] for i in kept + part] for row in self.rows],
            )
            for number, part in enumerate(parts)
        ]


def grids(questions: Sequence[Question]) -> Iterator[tuple[Question, list[Grid]]]:
    """The tables of each question; none for one that repeats the numbers of the question before it."""
    before: Question | None = None
    for question in questions:
        made = (headline_grid, overall_grid, perturbations_grid)
        each = [] if question.repeats(before) else [make(question) for make in made]
        yield question, [grid for grid in each if grid.rows]
        before = question


def perturbations_grid(question: Question) -> Grid:
    """Accuracy for each perturbation and timestep, the mean over all last, then mCE where the suite has it.

    Where there is one perturbation (noise), there is a row for each of its strengths instead.
    """
    table = question.table
    names = [*dict.fromkeys(table.loc[table["level"] == "perturbation", "perturbation"])]
    several = len(names) > 1
    kept = table["level"] == ("perturbation" if several else "condition")
    parts = [
        (str(name) if several else f"{name} {severity:g}", part)
        for (name, severity), part in table[kept].groupby(["perturbation", "severity"], sort=False, dropna=False)
    ]
    if len(parts) > 1:
        parts.append(("mean", table[table["level"] == "overall"]))
    steps = sorted(table["timestep"].unique())
    rows = []
    for name, rows_of in parts:
        part = rows_of.set_index("timestep")
        cells = [Cell(name)]
        constant = part["reference"].nunique() == 1
        cells.append(Cell(f"{part['reference'].iloc[0]:.1f}" if constant else "varies"))
        for step in steps:
            row = part.loc[step]
            flat = part["accuracy"].nunique() == 1
            faint = not row["significant"] and pd.notna(row["p_corrected"])
            cells.append(Cell(f"{row['accuracy']:.1f}", best=bool(row["best"]) and not flat, faint=bool(faint)))
        rows.append(cells)
    rules = [len(parts) - 1] if len(parts) > 1 else []
    found = question.corruption_errors
    if not found.empty and "mCE" in set(found["measure"]):
        mce = found[found["measure"] == "mCE"].set_index("timestep")["value"]
        change = found[found["measure"] == "mCE difference"].set_index("timestep")
        reference = mce - change["value"]
        cells = [Cell("mCE (AlexNet 100)"), Cell(f"{reference.iloc[0]:.1f}" if reference.nunique() else "")]
        for step in steps:
            faint = change.loc[step, "p_corrected"] >= 0.05 and change.loc[step, "value"] != 0
            cells.append(Cell(f"{mce[step]:.1f}", best=mce[step] == mce.min() < mce.max(), faint=bool(faint)))
        rows.append(cells)
    title = f"{question.suite}: {question.system} against {question.against}"
    return Grid(title, ["perturbation", "reference", *(f"t={t}" for t in steps)], rows, question.notes, rules, 2)


def overall_grid(question: Question) -> Grid:
    """The mean over perturbations: a row for each timestep, with interval, paired difference, p and verdict."""
    table = question.table[question.table["level"] == "overall"]
    rows = []
    for row in table.to_dict("records"):
        tested = pd.notna(row["p_corrected"])
        rows.append(
            [
                Cell(f"t={row['timestep']}"),
                Cell(f"{row['accuracy']:.1f}", best=bool(row["best"]) and table["accuracy"].nunique() > 1),
                Cell(f"{row['ci_low']:.1f} to {row['ci_high']:.1f}"),
                Cell(f"{row['difference']:+.2f}", faint=bool(tested and not row["significant"])),
                # the reference itself is not tested: it has no interval
                Cell(f"{row['sim_low']:+.2f} to {row['sim_high']:+.2f}" if tested else ""),
                Cell("" if not tested else "<0.001" if row["p_corrected"] < 0.001 else f"{row['p_corrected']:.2g}"),
                Cell(row["verdict"] if tested else ""),
            ]
        )
    columns = ["", "accuracy", "95 % interval", "difference", "95 % together", "corrected p", "verdict"]
    many = question.table.loc[question.table["level"] == "perturbation", "perturbation"].nunique() > 1
    title = (
        f"{question.suite}{', mean over perturbations' if many else ''}: {question.system} against {question.against}"
    )
    return Grid(title, columns, rows, [f"n = {table['n'].iloc[0]} images"])


def headline_grid(question: Question) -> Grid:
    """The summaries that neither conditions at chance nor a trade of clean accuracy decide."""
    rows = []
    for row in question.headline.to_dict("records"):
        tested = pd.notna(row["p"])
        rows.append(
            [
                Cell(f"{_SHORT[row['measure']]} t={row['timestep']}"),
                Cell(f"{row['accuracy']:.1f}"),
                Cell(f"{row['difference']:+.2f}", faint=bool(tested and row["verdict"] not in ("better", "worse"))),
                Cell(f"{row['low']:+.2f} to {row['high']:+.2f}"),
                Cell("" if not tested else "<0.001" if row["p"] < 0.001 else f"{row['p']:.2g}"),
                Cell(str(row["verdict"]) if tested else ""),
            ]
        )
    title = f"{question.suite}, headline: {question.system} against {question.against}"
    about = [
        f"{_SHORT[row['measure']]}: {row['measure']}, {row['conditions']}"
        for row in question.headline.to_dict("records")
    ]
    columns = ["", "accuracy", "diff.", "95 % interval", "p", "verdict"]
    return Grid(title, columns, rows, list(dict.fromkeys(about)))


def people_grid(found: WithPeople, network: str) -> Grid:
    """A network next to people in one condition, a row for each timestep; intervals are marginal."""
    rows = []
    for row in found.rows():
        kappa = "" if row["kappa"] is None else f"{row['kappa']:.2f}"
        between = "" if row["kappa"] is None else f"{row['kappa_low']:.2f} to {row['kappa_high']:.2f}"
        rows.append(
            [
                Cell(f"t={row['timestep']}"),
                Cell(f"{_percent(row['network']):.1f}"),
                Cell(f"{_percent(row['difference']):+.1f}"),
                Cell(f"{_percent(row['diff_low']):+.1f} to {_percent(row['diff_high']):+.1f}"),
                Cell(kappa),
                Cell(between),
            ]
        )
    columns = ["", "accuracy", "minus people", "95 % interval", "kappa", "95 % interval"]
    notes = [
        f"people: {100 * found.people:.1f} % of {found.stimuli:,} stimuli, {len(found.observers)} observers; intervals "
        f"of differences cover {found.difference.covers}"
    ]
    if found.among_people is not None:
        notes.append(f"kappa of people with each other: {found.among_people.kappa[0, 0]:.2f}")
    if not np.isnan(found.reaction.value):
        low, high = found.reaction.low, found.reaction.high
        notes.append(
            f"reaction time and time to decide: rank correlation {found.reaction.value:.2f} [{low:.2f}, {high:.2f}]"
        )
    else:
        notes.append("reaction time and time to decide: no correlation, for one of them does not vary")
    return Grid(f"{found.condition}: {network} and people", columns, rows, notes)


def _percent(share: object) -> float:
    return 100 * float(share) if isinstance(share, float) else float("nan")


def to_markdown(grid: Grid) -> str:
    """As Markdown: the best bold, what is not significant in parentheses."""
    lines = [
        f"**{escape(grid.title, quote=False)}**",
        "",
        _line(grid.columns),
        _line(["---", *["---:"] * (len(grid.columns) - 1)]),
    ]
    for row in grid.rows:
        texts = [f"({cell.text})" if cell.faint else cell.text for cell in row]
        lines.append(_line([f"**{text}**" if cell.best else text for cell, text in zip(row, texts, strict=True)]))
    if grid.notes:
        lines += ["", *(f"{escape(note, quote=False)}." for note in grid.notes)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(escape(cell, quote=False).replace('|', chr(92) + '|') for cell in cells)} |"


def to_latex(grid: Grid) -> str:
    r"""As a LaTeX table (`LATEX_PACKAGES`): the best \textbf, what is not significant grey."""
    said = [grid.title, *grid.notes, "Percent; bold: best timestep; grey: not significant"]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{' '.join(f'{_escape(line)}.' for line in said)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(grid.columns) - 1)}}}",
        r"\toprule",
        _row([_escape(column) for column in grid.columns]),
        r"\midrule",
    ]
    for index, row in enumerate(grid.rows):
        if index in grid.rules:
            lines.append(r"\midrule")
        texts = []
        for cell in row:
            text = _escape(cell.text)
            text = rf"\textcolor{{gray}}{{{text}}}" if cell.faint else text
            texts.append(rf"\textbf{{{text}}}" if cell.best else text)
        lines.append(_row(texts))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


_SPECIAL = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": "$<$",
    ">": "$>$",
    "\N{MINUS SIGN}": "$-$",
}
_MINUS = re.compile(r"(?<![^\s\[(])-(?=\d)")  # of a number, not of a name


def _escape(text: str) -> str:
    text = _MINUS.sub("\N{MINUS SIGN}", text)
    return "".join(_SPECIAL.get(character, character) for character in text)
