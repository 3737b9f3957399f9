"""`pcbench results`: what a directory holds, and how far it is."""

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(directory: Path, as_json: bool) -> None:
    """List what was asked of the directories in DIRECTORY, at any depth, with the command that finishes it."""
    import json

    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from pcbench.cli._again import again
    from pcbench.errors import one_line
    from pcbench.results.study import load_results

    study = load_results(directory)
    there = {cell.key.digest: cell for cell in study.cells}
    rows: list[dict[str, Any]] = []
    for placed in study.requests:
        request = placed.request
        done = [there[digest] for digest in request.cells if digest in there]
        codes = {(g.get("commit"), g.get("dirty")) for c in done if isinstance(g := c.provenance.get("git"), dict)}
        rows.append(
            {
                "directory": str(placed.directory),
                "status": study.status_of(placed),
                "cells": len(done),
                "planned": len(request.cells),
                "models": [one_line(model) for model in request.models],
                "suites": [one_line(suite.name) for suite in request.suites],
                "data": one_line(request.data),
                "dirty": any(bool(dirty) for _, dirty in codes),
                "commits": sorted({str(commit)[:8] for commit, _ in codes if commit}),
                "command": again(placed),
            }
        )
    if as_json:
        click.echo(json.dumps({"requests": rows, "cells": len(there), "problems": study.problems}, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("directory", "status", "models", "suites", "data", "code"):
        table.add_column(column, overflow="fold")
    for row in rows:
        below = Path(str(row["directory"])).relative_to(directory).as_posix()
        code = ", ".join(row["commits"]) + (" with changes" if row["dirty"] else "")
        cells = (
            directory.name if below == "." else below,
            f"{row['status']}\n{row['cells']}/{row['planned']}",
            "\n".join(row["models"]),
            "\n".join(row["suites"]),
            str(row["data"]),
            code,
        )
        table.add_row(*map(escape, cells))
    Console().print(table)
    for row in rows:
        if row["status"] != "complete":
            click.echo(f"{row['directory']} is {row['status']}; {row['command']}")
    extra = len(there) - len({digest for placed in study.requests for digest in placed.request.cells} & set(there))
    if extra:
        click.echo(f"{extra} cells are here that no request in run.json names")
    for problem in study.problems:
        click.echo(f"warning: {problem}", err=True)
