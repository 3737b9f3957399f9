"""`pcbench verify`: can somebody's results be believed?"""

from pathlib import Path

import click

_SHOWN = 40  # differences that are listed one by one


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--rerun", type=click.IntRange(min=0), default=0, show_default=True, help="Compute so many cells again.")
@click.option("--data", metavar="NAME|PATH", help="Where the images are, if not where the requests say.")
@click.option("--trust", metavar="MODULE", multiple=True, help="Code of yours that run.json may name; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: every single thing that was checked.")
def command(directory: Path, rerun: int, data: str | None, trust: tuple[str, ...], as_json: bool) -> None:
    """Check the results in DIRECTORY, at any depth; nothing is written there.

    Every derived table is made again from the records, the records of each cell are checked against their seal, its key
    against the models, suites and images that are here, and with --rerun cells are computed again. Exit code 1 when
    anything differs.
    """
    import json
    from collections import Counter
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from pcbench.errors import one_line
    from pcbench.harness.verify import verify

    console = Console(stderr=True)
    found = list(verify(directory, data, rerun, lambda text: console.print(text, style="dim", markup=False), trust))
    wrong = [finding for finding in found if finding.verdict == "differs"]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=1))
    else:
        counts = Counter((finding.what, finding.verdict) for finding in found)
        table = Table(box=None, pad_edge=False)
        for column in ("checked", "ok", "differs", "cannot be checked"):
            table.add_column(column, justify="left" if column == "checked" else "right")
        for what in dict.fromkeys(finding.what for finding in found):
            table.add_row(what, *(str(counts[what, verdict]) for verdict in ("ok", "differs", "cannot be checked")))
        Console().print(table)
        for finding in wrong[:_SHOWN]:
            click.echo(one_line(f"differs: {finding.what} {finding.subject}: {finding.why}"))
        if len(wrong) > _SHOWN:
            click.echo(f"and {len(wrong) - _SHOWN} more (--json lists all)")
        reasons = Counter(finding.why for finding in found if finding.verdict == "cannot be checked")
        for why, count in reasons.most_common(5):
            click.echo(one_line(f"cannot be checked here ({count}): {why}"))
    raise SystemExit(1 if wrong else 0)
