"""`pcbench models`: the registered models, or everything about one."""

from typing import Any

import click


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--all", "everything", is_flag=True, help="Also those without weights at hand, one a line.")
def command(name: str | None, as_json: bool, everything: bool) -> None:
    """List the models, those with weights at hand first; with NAME, everything about one.

    NAME is also timm:NAME, torchvision:NAME, predify:NAME, averaging:NAME, diffusion:NAME, robustbench:NAME,
    package.module:function.
    """
    import json

    from pcbench.models.listing import broken_models, describe_model, list_models, list_sources

    if name is not None:
        about = describe_model(name)
        if as_json:
            click.echo(json.dumps(about, indent=2))
        else:
            _show(about)
        return
    rows = list_models()
    if as_json:
        click.echo(json.dumps({"models": rows, "sources": list_sources(), "broken": broken_models()}, indent=2))
        return
    ready = [row for row in rows if row["at_hand"] != ["random"]]
    _table("weights at hand", ready)
    rest = [row for row in rows if row not in ready]
    if everything:
        _table("without (--weights random runs)", rest)
    else:
        click.echo(f"\nwithout ({len(rest)}; --all lists them, --weights random runs):")
        _wrapped([str(row["name"]) for row in rest if not str(row["name"]).startswith("convrnn-")])
        recurrent = sum(str(row["name"]).startswith("convrnn-") for row in rest)
        click.echo(f"  convrnn-CELL-GRAPH and convrnn-CELL-GRAPH-cifar ({recurrent})")
    click.echo("\nalso by name:")
    for source in list_sources():
        click.echo(f"  {source['description']}")
    click.echo("  package.module:function, a network of your own (pcbench check tests it)")
    for line in broken_models():
        click.echo(f"does not load: {line}")
    click.echo("`pcbench models NAME` says what is missing, and how to get it.")


def _table(title: str, rows: list[dict[str, Any]]) -> None:
    """Names, T and tags, the tags wrapped below each other; a name is never broken."""
    width = max((len(str(row["name"])) for row in rows), default=0)
    click.echo(f"{title}:")
    for row in rows:
        start = f"  {row['name']:{width}}  T {row['timesteps'] or '-':>2}  "
        tags = [tag for tag in row["at_hand"] if tag != "random"] or ["random"]
        _wrapped(tags, start)


def _wrapped(words: list[str], start: str = "  ") -> None:
    """Words with commas between, in lines of at most 79 characters."""
    line, indent = start, " " * len(start)
    for number, word in enumerate(words):
        piece = word + ("," if number < len(words) - 1 else "")
        if line.strip() and line != start and len(line) + len(piece) > 79:
            click.echo(line.rstrip())
            line = indent
        line += piece + " "
    click.echo(line.rstrip())


def _show(about: dict[str, Any]) -> None:
    """Everything about one model, indented."""
    click.echo(f"{about['name']}: {about['description']}")
    for title in ("family", "timesteps", "baseline", "counterpart", "parameters"):
        value = about.get(title)
        shown = f"{value:,}" if isinstance(value, int) else value
        if value is not None or title != "counterpart":
            click.echo(f"  {title}: {'-' if shown is None else shown}")
    click.echo("  weights:")
    for entry in about["weights"]:
        steps = "" if entry["timesteps"] is None else f", timesteps {entry['timesteps']}"
        classes = f", {entry['num_classes']} classes" if entry["num_classes"] else ""
        click.echo(f"    {entry['tag']}: {entry['description']}; {entry['data']}{classes}{steps}")
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
