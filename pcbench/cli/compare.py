"""`pcbench compare`: models against their baselines and their own feedforward pass, with tests."""

from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--baseline", help="Compare with this model (as the tables call it), not with the one each model names.")
@click.option("--suite", "suites", multiple=True, help="Only this suite; may be repeated.")
@click.option(
    "--despite",
    multiple=True,
    type=click.Choice(["images", "seed", "source", "incomplete"]),
    help="Compare runs that differ in this, or are incomplete; may be repeated.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Write CSV, Markdown, LaTeX, figures here."
)
def command(
    runs: tuple[Path, ...], baseline: str | None, suites: tuple[str, ...], despite: tuple[str, ...], output: Path | None
) -> None:
    """Compare models on the same images, at every timestep: each against its own t = 0 and against its baseline.

    Differences are paired by image; intervals come from a bootstrap over images; p-values are corrected (Holm).
    """
    from rich.console import Console

    from pcbench.analysis.runs import check_comparable, compare, open_runs
    from pcbench.report.tables import LEGEND, grids, to_rich, verdicts

    found, problems = open_runs(runs)
    notes = check_comparable(found, despite)
    questions = compare(found, baseline, suites)
    problems += [problem for run in found for problem in run.problems]
    console = Console()
    for question, tables in grids(questions):
        for grid in tables:
            for part in grid.fitting(console.width):
                console.print(to_rich(part))
                console.print()
        for note in question.notes:
            console.print(f"note: {note}", highlight=False, soft_wrap=True)
        for line in verdicts(question):
            console.print(line, highlight=False, soft_wrap=True)
        console.print()
    console.print(LEGEND, style="dim", highlight=False)
    for problem in [*problems, *notes]:
        click.echo(f"warning: {problem}", err=True)
    if output is not None:
        from pcbench.report.comparison import write_comparison

        for file in write_comparison(questions, output, [*problems, *notes]):
            click.echo(f"wrote {file}")
