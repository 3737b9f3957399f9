"""A comparison on disk: the tables as CSV, Markdown and LaTeX, and the figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.compare import Comparison
from pcbench.analysis.comparison import Question
from pcbench.analysis.derived import to_csv
from pcbench.figures import style
from pcbench.figures.consistency import consistency_figure
from pcbench.figures.run import readable, slug
from pcbench.report.tables import LATEX_PACKAGES, LEGEND, grids, to_latex, to_markdown


def write_comparison(found: Comparison, directory: Path, notes: Sequence[str] = ()) -> list[Path]:
    """Write comparison.csv, headline.csv, corruption-errors.csv, comparison.json, .md, .tex and figures/.

    Args:
        found: what was compared, and nothing else: a choice of timesteps or perturbations holds for all files.
        directory: made if need be.
        notes: lines that a reader of the Markdown must see (accepted differences, damaged files).

    Returns:
        The files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    questions = found.questions
    names = ("comparison.csv", "headline.csv", "corruption-errors.csv", "comparison.json")
    csv, headline, errors, whole = (directory / name for name in names)
    csv.write_bytes(to_csv(in_fractions(found.table)))
    headline.write_bytes(to_csv(in_fractions(found.headline.drop(columns="sentence", errors="ignore"))))
    errors.write_bytes(to_csv(found.corruption_errors))
    whole.write_text(found.to_json() + "\n", encoding="utf-8")
    tables = [grid for _, each in grids(questions) for grid in each]
    lines = [line.strip() for line in found.sentences]
    text = "# Comparison\n\n" + "".join(f"- {line}\n" for line in lines) + f"\n{LEGEND}\n\n"
    text += "".join(f"Warning: {note}.\n\n" for note in notes)
    markdown, latex = directory / "comparison.md", directory / "comparison.tex"
    markdown.write_text(text + "\n".join(to_markdown(grid) for grid in tables), encoding="utf-8")
    said = "".join(f"% {line}\n" for line in lines)
    latex.write_text(LATEX_PACKAGES + said + "\n" + "\n".join(to_latex(grid) for grid in tables), encoding="utf-8")
    files = [csv, headline, errors, whole, markdown, latex]
    with style.style():
        for question in questions:
            stem = directory / "figures" / slug(f"{question.suite}-{question.system}-against-{question.against}")
            files += style.save(*differences_over_time(question), stem)
            if (question.table["level"] == "perturbation").sum() > question.table["timestep"].nunique():
                files += style.save(*differences(question), stem.with_name(f"{stem.name}-perturbations"))
            if question.sides:
                files += style.save(*consistency_figure(*question.sides), stem.with_name(f"{stem.name}-consistency"))
    return files


def _about(question: Question) -> str:
    return question.scope if question.scope.startswith(question.suite) else f"{question.suite}: {question.scope}"


def in_fractions(table: pd.DataFrame) -> pd.DataFrame:
    """A question's table with fractions in [0, 1] for percent: all CSV files have accuracies of one kind."""
    limits = ["ci_low", "ci_high", "diff_low", "diff_high", "sim_low", "sim_high", "low", "high"]
    percent = ["accuracy", "reference", "difference", *limits]
    return table.assign(**{name: table[name] / 100 for name in percent if name in table})


def differences_over_time(question: Question) -> tuple[Figure, pd.DataFrame]:
    """The paired difference of the mean over perturbations against timestep, with its simultaneous interval."""
    table = question.table[question.table["level"] == "overall"]
    figure = style.canvas()
    ax = figure.subplots()
    ax.axhline(0, color=style.BASELINE, linestyle=(0, (3, 2)), linewidth=0.9)
    asked = table[table["p"].notna()]  # where both are right on the same images, nothing is, and has no interval
    ax.fill_between(asked["timestep"], asked["sim_low"], asked["sim_high"], color=style.colour(0), alpha=0.15, lw=0)
    ax.plot(table["timestep"], table["difference"], color=style.colour(0))
    for significant, part in table.groupby("significant"):
        face = style.colour(0) if significant else "white"
        ax.plot(part["timestep"], part["difference"], "o", color=style.colour(0), markerfacecolor=face)
    style.timestep_axis(ax, table["timestep"].tolist())
    style.percent_axis(ax, "difference (points)")
    ax.set_xlabel("timestep (filled: corrected p < 0.05)")
    style.about(figure, f"{question.system} against {question.against}", _about(question))
    return figure, table


def differences(question: Question) -> tuple[Figure, pd.DataFrame]:
    """The paired difference in each perturbation at the last timestep, with intervals that hold together."""
    last = question.table["timestep"].max()
    table = question.table[(question.table["level"] == "perturbation") & (question.table["timestep"] == last)]
    figure = style.canvas(style.COLUMN, 0.9 + 0.16 * len(table))
    ax = figure.subplots()
    ax.axvline(0, color=style.BASELINE, linestyle=(0, (3, 2)), linewidth=0.9)
    for height, row in enumerate(table.to_dict("records")):
        ax.plot([row["sim_low"], row["sim_high"]], [height, height], color=style.colour(0))
        face = style.colour(0) if row["significant"] else "white"
        ax.plot(row["difference"], height, "o", color=style.colour(0), markerfacecolor=face)
    ax.set_yticks(np.arange(len(table)), [readable(name) for name in table["perturbation"]])
    ax.invert_yaxis()
    ax.set_xlabel(f"difference at t = {last} (points; filled: corrected p < 0.05)")
    style.about(figure, f"{question.system} against {question.against}", _about(question))
    return figure, table
