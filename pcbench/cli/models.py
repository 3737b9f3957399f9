"""`pcbench models`: the registered models, or everything about one."""

import click


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List the models; with NAME, everything about one.

    NAME is also timm:NAME, torchvision:NAME, predify:NAME, averaging:NAME, diffusion:NAME.
    """
    import json

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from pcbench.models.listing import describe_model, list_models, list_sources

    console = Console()
    if name is not None:
        about = describe_model(name)
        if as_json:
            click.echo(json.dumps(about, indent=2))
        else:
            _show(about)
        return
    rows = list_models()
    if as_json:
        click.echo(json.dumps({"models": rows, "sources": list_sources()}, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    table.add_column("T", justify="right")
    table.add_column("weights at hand (others in parentheses)", overflow="fold")
    family = None
    for row in rows:
        if row["family"] != family:
            family = row["family"]
            table.add_section()
            table.add_row(f"[bold]{family}[/bold]", "", "")
        at_hand, tags = row["at_hand"], row["weights"]
        assert isinstance(at_hand, list)
        assert isinstance(tags, list)
        steps = str(row["timesteps"]) if row["timesteps"] else "-"
        weights = ", ".join(tag if tag in at_hand else f"({tag})" for tag in tags)
        table.add_row(f"  {row['name']}", steps, weights)
    console.print(table)
    console.print("T: default number of timesteps after the feedforward pass. Also by name:")
    for source in list_sources():
        console.print(f"  {source['description']}", highlight=False)
    console.print("  package.module:function, a function that returns a network")
    console.print("`pcbench models NAME` says what is missing, and how to get it.", highlight=False)


def _show(about: dict[str, object]) -> None:
    """Everything about one model, indented."""
    click.echo(f"{about['name']}: {about['description']}")
    for title in ("family", "timesteps", "baseline", "parameters"):
        value = about.get(title)
        shown = f"{value:,}" if isinstance(value, int) else value
        click.echo(f"  {title}: {'-' if shown is None else shown}")
    click.echo("  weights:")
    weights = about["weights"]
    assert isinstance(weights, list)
    for entry in weights:
        click.echo(f"    {entry['tag']}: {entry['description']}; {entry['data']}, {entry['num_classes']} classes")
        _block(entry["preprocessing"], "preprocessing", 6)
        if entry["options"]:
            _block(entry["options"], "options", 6)
        for file in entry["files"]:
            click.echo(f"      {file['role']}: {'at hand' if file['at_hand'] else 'missing'}: {file['where']}")
    click.echo("    random: seeded initial values, always at hand")
    for title in ("options", "built"):
        values = about.get(title)
        if isinstance(values, dict) and values:
            click.echo(f"  {title}:")
            for key, value in values.items():
                click.echo(f"    {key}: {value}")


def _block(values: dict[str, object], title: str, indent: int) -> None:
    click.echo(f"{' ' * indent}{title}: " + ", ".join(f"{key} {value}" for key, value in values.items()))
