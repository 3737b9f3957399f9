"""What a paper's figure is: a name, the cells that it needs, and how it is drawn from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from pcbench.errors import UserError, did_you_mean
from pcbench.figures import style
from pcbench.registry import Registry, instance_of, is_place
from pcbench.results.study import Study


@dataclass(frozen=True)
class PaperFigure:
    """One figure of a paper.

    Attributes:
        paper: "predify2021".
        name: "ce-grid"; the file's name.
        suites: any of these makes it; the first is what is run where there is none.
        timesteps: T of the experiment; 0 when it is about networks without dynamics too.
        models: that are run where there is none.
        draw: cells of its suites -> the figure and what it shows; None when their records do not have what it
            needs.
        needs: what the records must have, in words.
        to_run: the suites that are run where there is none, when it takes more than the first.
    """

    paper: str
    name: str
    suites: tuple[str, ...]
    timesteps: int
    models: tuple[str, ...]
    draw: Callable[[Study], tuple[Figure, pd.DataFrame] | None]
    needs: str
    to_run: tuple[str, ...] = ()

    def study(self, study: Study) -> Study | None:
        """The cells of one of its suites; None where there are none."""
        wanted = [suite for suite in self.suites if suite in study.suite_names()]
        return study.select(suite=wanted) if wanted else None

    def missing(self, study: Study | None, suite: str, models: Sequence[str] = ()) -> list[str]:
        """The models whose answers in a suite the figure lacks.

        Args:
            study: what there is; None for nothing.
            suite: one of the figure's.
            models: that it shall show; none for whichever there are, or, where there are none, its own.
        """
        group = [suite] if self.to_run else [*self.suites]
        there = [one for one in group if study is not None and one in study.suite_names()]
        if study is None or not there:
            return list(models or self.models)
        cells = study.select(suite=there).cells
        names = {cell.key.model.label for cell in cells} | {cell.key.model.name for cell in cells}
        if models:
            return [name for name in models if name not in names]
        if any(cell.has_dynamics or self.timesteps == 0 for cell in cells):
            return []
        return list(self.models)


FIGURES = Registry[PaperFigure](
    "figure", package="pcbench.figures.papers", entry_points="pcbench.figures", adopt=instance_of(PaperFigure)
)


def papers() -> list[str]:
    """The papers that have figures."""
    return sorted({figure.paper for _, figure in FIGURES})


def figures_of(paper: str) -> list[PaperFigure]:
    """The figures of a paper, or the one at "package.module:figure". Raises UserError when there is no such paper."""
    if is_place(paper):
        return [FIGURES[paper]]
    found = [figure for _, figure in FIGURES if figure.paper == paper]
    if not found:
        raise UserError(f"no paper {paper!r}; {did_you_mean(paper, papers())}")
    return found


def register(figure: PaperFigure) -> None:
    """Add a figure under "PAPER/NAME"."""
    FIGURES.register(f"{figure.paper}/{figure.name}", figure)


def draw(figures: Sequence[PaperFigure], study: Study, directory: Path) -> tuple[list[Path], list[str]]:
    """Draw the figures that the cells can make.

    Returns:
        The files, and one line for each figure that could not be drawn: what it needs.
    """
    files: list[Path] = []
    missing: list[str] = []
    with style.style():
        for figure in figures:
            part = figure.study(study)
            made = figure.draw(part) if part is not None else None
            if made is None:
                missing.append(f"{figure.paper}/{figure.name} needs {figure.needs}")
                continue
            files += style.save(*made, directory / figure.name)
    return files, missing
