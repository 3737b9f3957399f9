"""`pcbench doctor`: what is installed and at hand, and how to get the rest."""

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say what is installed, which devices, data and weights are at hand, and how to get the rest."""
    import json

    from pcbench.harness.doctor import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for title, values in found.items():
        click.echo(f"{title}:")
        if isinstance(values, dict):
            for name, value in values.items():
                click.echo(f"  {name}: {value}")
        elif isinstance(values, list):
            for row in values:
                mark = "+" if row["at_hand"] else "-"
                click.echo(f"  {mark} {row['name']}: {row['note']}")
