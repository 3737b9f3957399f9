"""`pcbench suites`: the suites, or everything about one."""

import click


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List the suites; with NAME (or the path of a suite file), its conditions."""
    import json
    from dataclasses import asdict

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pcbench.suites.registry import describe, list_suites, load_suite

    if name is None:
        rows = list_suites()
        if as_json:
            click.echo(json.dumps(rows, indent=2))
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("suite", no_wrap=True)
        table.add_column("conditions", justify="right")
        table.add_column("what it asks")
        for row in rows:
            count = "?" if row["conditions"] is None else str(row["conditions"])
            needs = f" ({row['needs']})" if row["needs"] else ""
            table.add_row(str(row["name"]), count, Text(f"{row['description']}{needs}"))
        Console().print(table)
        return
    suite = load_suite(name)
    if as_json:
        conditions = [asdict(condition) for condition in suite.conditions]
        click.echo(json.dumps({**describe(suite), "conditions": conditions, "timesteps": suite.timesteps}, indent=2))
        return
    click.echo(f"{suite.name}, version {suite.version}: {suite.description}")
    if suite.timesteps is not None:
        click.echo(f"  timesteps: {suite.timesteps}")
    for perturbation in dict.fromkeys(condition.perturbation for condition in suite.conditions):
        members = [condition for condition in suite.conditions if condition.perturbation == perturbation]
        strengths = ", ".join(f"{condition.severity:g}" for condition in members)
        click.echo(f"  {perturbation} ({members[0].kind}, group {members[0].group}): {strengths}")
