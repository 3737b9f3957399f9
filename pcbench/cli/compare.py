"""`pcbench compare`: models against their baselines and their own feedforward pass, with tests."""

from pathlib import Path

import click

_DESPITE = ("images", "seed", "dtype", "settings", "code", "source", "incomplete")


@click.command()
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--baseline", help="Compare with this system (as the tables call it), not with the one each names.")
@click.option("--suite", "suites", multiple=True, help="Only this suite; may be repeated.")
@click.option(
    "--despite",
    multiple=True,
    type=click.Choice(_DESPITE),
    help="Set systems side by side that differ in this, or compare what is incomplete; may be repeated.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Write CSV, Markdown, LaTeX, figures here."
)
def command(
    directories: tuple[Path, ...],
    baseline: str | None,
    suites: tuple[str, ...],
    despite: tuple[str, ...],
    output: Path | None,
) -> None:
    """Compare systems on the same images, at every timestep: each against its own t = 0 and against its baseline.

    Differences are paired by image. Intervals of a family of tests hold together, and p-values are corrected to match.
    """
    from rich.console import Console

    from pcbench.analysis.selection import compare
    from pcbench.cli._grids import to_rich
    from pcbench.report.tables import LEGEND, grids, verdicts
    from pcbench.results.study import load_results

    study = load_results(*directories)
    questions, notes = compare(study, baseline, suites, despite)
    console = Console()
    for question, tables in grids(questions):
        for grid in tables:
            for part in grid.fitting(console.width):
                console.print(to_rich(part))
                console.print()
        for note in question.notes:
            console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
        for line in verdicts(question):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        console.print()
    console.print(LEGEND, style="dim", highlight=False)
    problems = [*study.problems, *notes]
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    if output is not None:
        from pcbench.report.comparison import write_comparison

        for file in write_comparison(questions, output, problems):
            click.echo(f"wrote {file}")
