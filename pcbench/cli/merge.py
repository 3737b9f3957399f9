"""`pcbench merge`: cells of several directories, copied together."""

from pathlib import Path

import click

EXAMPLES = """\b
On a batch scheduler all parts may fill one directory, e.g. a SLURM array of 8 jobs (sbatch --array=1-8):
  pcbench run --model M --suite S --output DIR --shard $SLURM_ARRAY_TASK_ID/8
Where hosts do not share a disk, give each a directory of its own, and when they have finished:
  pcbench merge DIR1 DIR2 ... --output DIR
"""


@click.command(epilog=EXAMPLES)
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Where the cells are copied to.")
@click.option("--no-figures", is_flag=True, help="Draw nothing.")
def command(directories: tuple[Path, ...], output: Path, no_figures: bool) -> None:
    """Copy the cells in DIRECTORIES (at any depth) to one directory, with what was asked of them.

    Cells that are there already stay; nothing in DIRECTORIES changes.
    """
    from pcbench.harness.run import derive
    from pcbench.results.directory import Directory
    from pcbench.results.merge import merge

    with Directory(output) as directory:
        count, problems = merge(directories, directory)
        derive(directory, None if no_figures else lambda text: None)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    click.echo(f"results: {output} ({count} cells copied)")
