"""`pcbench dynamics MODEL`: what the updates of a predictive network are made of."""

from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.option("--weights", help="Tag of the weights. [default: the first at hand]")
@click.option("--data", help="Registered data or a folder of class folders. [default: as for pcbench run]")
@click.option("--timesteps", type=int, help="T, at least 1. [default: the model's]")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Use this many images.")
@click.option("--batch-size", type=click.IntRange(1), default=10, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of random weights.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV and figure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    model: str,
    weights: str | None,
    data: str | None,
    timesteps: int | None,
    limit: int,
    batch_size: int,
    seed: int,
    device: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """The share of each term in the update of a predictive network, per PCoder and timestep.

    A share is the root mean square of the term over that of the new representation. MODEL may carry options:
    'pvgg16?dynamics=no-feedback&scaling=kc'.
    """
    import numpy as np
    import torch
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from pcbench.data.geometry import Geometry
    from pcbench.data.images import choose_positions
    from pcbench.data.registry import choose_data
    from pcbench.errors import UserError
    from pcbench.figures import style
    from pcbench.figures.terms import TERMS, term_shares_figure
    from pcbench.models.predictive.classifier import PredictiveClassifier
    from pcbench.models.predictive.dynamics import term_shares
    from pcbench.models.resolve import resolve

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this machine has none that torch can use; use --device cpu")
    choice = resolve(model, weights, cross=data is None)
    images, data_notice = choose_data(data, choice.label_space)
    for notice in (*choice.notices, data_notice):
        if notice:
            click.echo(notice, err=True)
    built = choice.build(device, seed)
    if not isinstance(built, PredictiveClassifier):
        raise UserError(f"{model} has no predictive dynamics; `pcbench models` lists the networks of family predictive")
    steps = built.timesteps if timesteps is None else timesteps
    if steps < 1:
        raise UserError(f"timesteps is {steps}; there is an update from 1 on")
    geometry = Geometry.of(built.preprocessing)
    pixels = [geometry.prepare(images.read(position)) for position in choose_positions(images, limit)]
    batches = [
        torch.from_numpy(np.stack(pixels[start : start + batch_size])).permute(0, 3, 1, 2).float().to(device) / 255
        for start in range(0, len(pixels), batch_size)
    ]
    shares = term_shares(built.network, (built.normalise(batch) for batch in batches), steps)
    if output is not None:
        with style.style():
            files = style.save(term_shares_figure(shares), shares, output / "dynamics", ("png", "svg"))
        click.echo(f"written: {', '.join(str(file) for file in files)}", err=True)
    if as_json:
        click.echo(shares.to_json(orient="records", indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD, title=f"{built.name}, weights {built.weights}, {len(pixels)} images")
    for title in shares.columns:
        table.add_column(title, justify="left" if title == "module" else "right")
    for row in shares.to_dict("records"):
        if row["timestep"] == 1 and row["pcoder"] != 1:
            table.add_section()
        table.add_row(str(row["pcoder"]), row["module"], str(row["timestep"]), *(f"{row[term]:.3g}" for term in TERMS))
    Console().print(table)
