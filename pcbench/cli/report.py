"""`pcbench report`: one HTML file about all runs in a directory."""

from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The HTML file.")
def command(directory: Path, output: Path) -> None:
    """Write a self-contained HTML report about the runs in DIRECTORY."""
    import shlex

    from pcbench.errors import UserError
    from pcbench.report.page import page
    from pcbench.results.load import load_results

    if not output.parent.is_dir():
        raise UserError(f"no directory {output.parent} to write {output.name} into")
    results = load_results(directory)
    text = page(results.runs, results.problems)
    output.write_text(text, encoding="utf-8")
    for run in results.runs:
        if run.info.status != "complete":
            again = shlex.join(run.info.command)
            click.echo(f"warning: {run.directory} is {run.info.status}; finish it with: {again}", err=True)
    for problem in [*results.problems, *(problem for run in results.runs for problem in run.problems)]:
        click.echo(f"warning: {problem}", err=True)
    click.echo(f"wrote {output}")
