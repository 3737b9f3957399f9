"""`pcbench report`: one HTML file about all results in a directory."""

from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The HTML file.")
def command(directory: Path, output: Path) -> None:
    """Write a self-contained HTML report about the results in DIRECTORY, at any depth."""
    from pcbench.cli._again import again
    from pcbench.errors import UserError
    from pcbench.report.page import page
    from pcbench.results.disk import write_atomically
    from pcbench.results.study import load_results

    if not output.parent.is_dir():
        raise UserError(f"no directory {output.parent} to write {output.name} into")
    if output.is_dir():
        raise UserError(f"{output} is a directory; --output names the HTML file")
    study = load_results(directory)
    write_atomically(output, page(study).encode())
    for placed in study.requests:
        status = study.status_of(placed)
        if status != "complete":
            click.echo(f"warning: {placed.directory} is {status}; {again(placed)}", err=True)
    for problem in study.problems:
        click.echo(f"warning: {problem}", err=True)
    click.echo(f"wrote {output}")
