"""`pcbench figures PAPER`: a paper's figures, from run directories."""

from pathlib import Path

import click


@click.command()
@click.argument("paper")
@click.option("--runs", "runs", required=True, type=click.Path(path_type=Path), help="A run, or a directory of runs.")
@click.option("--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="Where the figures go.")
@click.option("--figure", "names", multiple=True, help="Only this figure; may be repeated.")
@click.option("--run", "compute", is_flag=True, help="First compute the runs that are missing, into --runs.")
@click.option("--model", "models", multiple=True, help="With --run: these models instead of the figure's own.")
@click.option("--weights", help="With --run: the tag of the models' weights, e.g. random.")
@click.option("--data", help="With --run: the images, as of pcbench run.")
@click.option("--limit", type=click.IntRange(min=1), help="With --run: the number of images.")
@click.option("--timesteps", type=click.IntRange(min=0), help="With --run: T instead of the paper's.")
@click.option("--seed", type=int, default=0, show_default=True, help="With --run: the seed.")
def command(
    paper: str,
    runs: Path,
    output: Path,
    names: tuple[str, ...],
    compute: bool,
    models: tuple[str, ...],
    weights: str | None,
    data: str | None,
    limit: int | None,
    timesteps: int | None,
    seed: int,
) -> None:
    """Draw the figures of PAPER (predify2021, nayebi2018, nayebi2022, cekic2022), each as PNG, SVG, PDF and CSV."""
    from pcbench.cli._again import again
    from pcbench.errors import RunError, UserError, did_you_mean
    from pcbench.figures.registry import draw, figures_of
    from pcbench.figures.run import slug
    from pcbench.results.study import Study, load_results

    wanted = figures_of(paper)
    known = [figure.name for figure in wanted]
    for name in names:
        if name not in known:
            raise UserError(f"{paper} has no figure {name!r}; {did_you_mean(name, known)}")
    wanted = [figure for figure in wanted if not names or figure.name in names]

    def there() -> Study | None:
        try:
            return load_results(runs)
        except UserError:
            return None

    if compute:
        from pcbench.cli._display import Display
        from pcbench.harness.run import run

        for figure in wanted:
            for suite in figure.to_run or figure.suites[:1]:
                needed = figure.missing(there(), suite, models)
                if not needed:
                    continue
                target = runs / slug("-".join((suite, *needed)))
                click.echo(f"computing {suite} of {', '.join(needed)} in {target}")
                run(
                    model=needed,
                    suite=suite,
                    data=data,
                    output=target,
                    weights=weights,
                    timesteps=timesteps if timesteps is not None else figure.timesteps,
                    limit=limit,
                    seed=seed,
                    progress=Display(),
                )
    study = load_results(runs)
    for placed in study.requests:
        status = study.status_of(placed)
        if status != "complete":
            what = f"{placed.directory} is {status}; it is drawn as far as it goes; {again(placed)}"
            click.echo(f"warning: {what}", err=True)
    files, missing = draw(wanted, study, output)
    for problem in study.problems:
        click.echo(f"warning: {problem}", err=True)
    for file in files:
        click.echo(f"wrote {file}")
    for line in missing:
        click.echo(f"not drawn: {line}", err=True)
    if not files:
        raise RunError(f"none of the figures of {paper} could be drawn from {runs}; --run computes what is missing")
