"""`pcbench data`: the data sets, or everything about one."""

from pathlib import Path

import click


@click.command()
@click.argument("name", required=False, metavar="[NAME|PATH]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--download", type=click.Path(path_type=Path), metavar="DIR", help="Fetch what can be fetched to DIR.")
def command(name: str | None, as_json: bool, download: Path | None) -> None:
    """List the data sets; with a NAME or a PATH, what is in it."""
    import json

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pcbench.data.dataset import DATA
    from pcbench.data.registry import list_data, load_data
    from pcbench.errors import UserError

    if download is not None:
        fetch = DATA[name].download if name is not None else None
        if fetch is None:
            can = [each for each, source in DATA if source.download is not None]
            raise UserError(f"{name or 'no data set'} cannot be downloaded; {' and '.join(can)} can")
        click.echo(f"now set {fetch(download)}")
        return
    if name is not None:
        images = load_data(name)
        about = {
            "name": images.name,
            "images": len(images),
            "classes": len(set(images.labels)),
            "label_space": images.label_space,
            "clean": images.has_clean,
            "first_ids": images.ids[:3],
        }
        click.echo(json.dumps(about, indent=2) if as_json else "\n".join(f"{k}: {v}" for k, v in about.items()))
        return
    rows = list_data()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("data set", no_wrap=True)
    table.add_column("at hand")
    table.add_column("what it is, and how to get it")
    for row in rows:
        needs = "" if row["at_hand"] else f"; {row['needs']}"
        table.add_row(str(row["name"]), "yes" if row["at_hand"] else "no", Text(f"{row['description']}{needs}"))
    Console().print(table)
    click.echo("Also a path: a folder of class folders, a .npz file, the root of an ImageNet-C or CIFAR-C copy;")
    click.echo("or package.module:function, which returns the images.")
