"""`pcbench results`: the runs in a directory, and how far they are."""

from pathlib import Path

import click


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(directory: Path, as_json: bool) -> None:
    """List the runs in DIRECTORY, at any depth, with their status and the command that finishes them."""
    import json
    import shlex

    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from pcbench.results.load import load_results

    results = load_results(directory)
    rows = [
        {
            "directory": str(run.directory),
            "status": run.info.status,
            "cells": len(run.info.cells),
            "planned": run.info.planned,
            "models": [f"{model.name} [{model.weights}]" for model in run.info.models],
            "suites": [suite.name for suite in run.info.suites],
            "data": run.info.data.name,
            "images": run.info.data.n,
            "command": shlex.join(run.info.command),
        }
        for run in results.runs
    ]
    if as_json:
        click.echo(json.dumps({"runs": rows, "problems": results.problems}, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("run", overflow="fold")
    for column in ("status", "models", "suites", "data"):
        table.add_column(column, overflow="fold")
    for run in results.runs:
        info = run.info
        below = run.directory.relative_to(directory).as_posix()
        status = f"{info.status}\n{len(info.cells)}/{info.planned or len(info.cells)}"
        models = "\n".join(f"{model.name} [{model.weights}]" for model in info.models)
        suites = "\n".join(suite.name for suite in info.suites)
        data = f"{info.data.name}\n{info.data.n} images"
        table.add_row(*map(escape, (directory.name if below == "." else below, status, models, suites, data)))
    Console().print(table)
    for row in rows:
        if row["status"] != "complete":
            click.echo(f"{row['directory']} is not complete; finish it with: {row['command']}")
    for problem in results.problems:
        click.echo(f"warning: {problem}", err=True)
