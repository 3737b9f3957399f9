"""`pcbench merge`: the shards of a run, put together."""

from pathlib import Path

import click

EXAMPLES = """\b
On a batch scheduler, e.g. as a SLURM array of 8 jobs (sbatch --array=1-8):
  pcbench run --model M --suite S --output DIR --shard $SLURM_ARRAY_TASK_ID/8
and when all have finished:
  pcbench merge DIR
"""


@click.command(epilog=EXAMPLES)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--no-figures", is_flag=True, help="Draw nothing.")
def command(directory: Path, no_figures: bool) -> None:
    """Put the finished shards in DIRECTORY together as one run, when all are there and whole."""
    from pcbench.results.load import load_results
    from pcbench.results.shards import merge

    info = merge(directory)
    if not no_figures:
        from pcbench.figures import run_figures

        run_figures(load_results(directory), directory / "figures")
    click.echo(f"results: {directory} ({len(info.cells)} cells)")
