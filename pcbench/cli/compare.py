"""`pcbench compare`: models against their baselines and their own feedforward pass, with tests."""

from pathlib import Path

import click

_DESPITE = ("images", "seed", "dtype", "settings", "code", "source", "incomplete")


@click.command()
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", "models", multiple=True, help="Only questions about this system; may be repeated.")
@click.option("--baseline", help="Compare with this system (as the tables call it), not with the one each names.")
@click.option("--suite", "suites", multiple=True, help="Only this suite; may be repeated.")
@click.option("--perturbation", "perturbations", multiple=True, help="Only this perturbation; may be repeated.")
@click.option(
    "--timestep", "timesteps", multiple=True, type=click.IntRange(min=0), help="Only this t; may be repeated."
)
@click.option("--margin", type=float, help="Points within which two systems count as equivalent.")
@click.option("--family", is_flag=True, help="Correct over all comparisons together, not over each by itself.")
@click.option("--power", type=float, help="Say how many images would show a difference of so many points.")
@click.option(
    "--despite",
    multiple=True,
    type=click.Choice(_DESPITE),
    help="Set systems side by side that differ in this, or compare what is incomplete; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), help="Write CSV, Markdown, LaTeX, figures here."
)
def command(
    directories: tuple[Path, ...],
    models: tuple[str, ...],
    baseline: str | None,
    suites: tuple[str, ...],
    perturbations: tuple[str, ...],
    timesteps: tuple[int, ...],
    margin: float | None,
    family: bool,
    power: float | None,
    despite: tuple[str, ...],
    as_json: bool,
    output: Path | None,
) -> None:
    """Compare systems on the same images, at every timestep: each against its own t = 0 and against its baseline.

    Differences are paired by image. Intervals of a family of tests hold together, and p-values are corrected to match.
    """
    from rich.console import Console

    from pcbench.analysis.compare import compare
    from pcbench.cli._grids import Names, to_rich
    from pcbench.report.tables import LEGEND, grids
    from pcbench.results.study import load_results

    study = load_results(*directories)
    found = compare(
        study,
        baseline=baseline,
        model=models,
        suite=suites,
        perturbation=perturbations,
        timestep=timesteps or None,
        margin=margin,
        family=family,
        power=power,
        despite=despite,
    )
    problems = [*study.problems, *found.notes]
    if as_json:
        click.echo(found.to_json())
    else:
        console = Console()
        names = Names([name for each in found.questions for name in (each.system, each.against)], console.width)

        def say(line: str, style: str | None = None) -> None:
            console.print(line, style=style, highlight=False, soft_wrap=True, markup=False)

        for line in found.sentences:
            say(line)
        console.print()
        for question, tables in grids(found.questions):
            for grid in tables:
                for part in grid.fitting(console.width):
                    console.print(to_rich(part, names.short(part.title)))
                    console.print()
                for note in grid.notes if tables.index(grid) == 0 and not question.headline.empty else ():
                    say(f"note: {names.short(note)}")
            for note in question.notes:
                say(f"note: {names.short(note)}")
            console.print()
        for line in names.legend:
            say(line)
        say(LEGEND, "dim")
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    if output is not None:
        from pcbench.report.comparison import write_comparison

        for file in write_comparison(found, output, problems):
            click.echo(f"wrote {file}", err=as_json)
