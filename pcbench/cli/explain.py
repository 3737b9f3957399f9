"""`pcbench explain`: the texts that error lines point to, offline."""

import click


@click.command()
@click.argument("topic", required=False)
def command(topic: str | None) -> None:
    """Explain TOPIC, without network; without TOPIC, list what can be explained.

    The same texts are pages of the documentation. Through a pipe they come as plain Markdown.
    """
    import sys

    from pcbench import explain

    if topic is None:
        known = explain.topics()
        width = max(len(each.name) for each in known)
        for each in known:
            click.echo(f"{each.name:{width}}  {each.title}")
        return
    text = explain.topic(topic).text
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text), width=min(console.width, 100))
