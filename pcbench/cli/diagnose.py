"""`pcbench diagnose MODEL...`: sparsity and signal to noise inside VGG16 and the Hebbian networks."""

from pathlib import Path

import click


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--weights", help="Tag of the weights, of all models. [default: the first at hand]")
@click.option("--data", help="Registered data, a .npz file or a folder. [default: as for pcbench run]")
@click.option("--sigma", "sigmas", multiple=True, type=float, default=(0.1,), show_default=True, help="May repeat.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Use this many images.")
@click.option("--batch-size", type=click.IntRange(1), default=50, show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the noise and of random weights.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV and figure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    models: tuple[str, ...],
    weights: str | None,
    data: str | None,
    sigmas: tuple[float, ...],
    limit: int,
    batch_size: int,
    seed: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Activation sparsity and signal-to-noise ratio of each layer under Gaussian noise.

    For vgg16-cifar, hah-vgg16 and its variants; several MODELS are drawn into one figure.
    """
    import numpy as np
    import pandas as pd
    import torch
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from pcbench.data.geometry import Geometry
    from pcbench.data.images import choose_positions
    from pcbench.data.registry import choose_data
    from pcbench.figures import style
    from pcbench.figures.layers import layers_figure
    from pcbench.models.layers import layer_diagnostics
    from pcbench.models.resolve import resolve

    tables = {}
    for name in models:
        choice = resolve(name, weights, cross=data is None)
        images, data_notice = choose_data(data, choice.label_space)
        for notice in (*choice.notices, data_notice):
            if notice:
                click.echo(notice, err=True)
        model = choice.build(seed=seed)
        geometry = Geometry.of(model.preprocessing)
        positions = choose_positions(images, limit)
        batches = []
        for start in range(0, len(positions), batch_size):
            chosen = positions[start : start + batch_size]
            pixels = np.stack([geometry.prepare(images.read(position)) for position in chosen])
            batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            batches.append(([images.ids[position] for position in chosen], batch))
        tables[name] = layer_diagnostics(model, batches, sigmas, seed)
    together = pd.concat([table.assign(model=name) for name, table in tables.items()], ignore_index=True)
    if output is not None:
        with style.style():
            files = style.save(layers_figure(tables, sigmas[0]), together, output / "layers", ("png", "svg"))
        click.echo(f"written: {', '.join(str(file) for file in files)}", err=True)
    if as_json:
        click.echo(together.to_json(orient="records", indent=2))
        return
    for name, table in tables.items():
        shown = Table(box=box.SIMPLE_HEAD, title=f"{name}, {min(limit, len(positions))} images")
        for title in ("layer", "block", "sigma", "SNR (dB)", "active (%)", "active under noise (%)"):
            shown.add_column(title, justify="left" if title == "block" else "right")
        for row in table.to_dict("records"):
            shares = (f"{100 * row[column]:.1f}" for column in ("active", "active_noisy"))
            shown.add_row(str(row["layer"]), row["block"], f"{row['sigma']:g}", f"{row['snr_db']:.2f}", *shares)
        Console().print(shown)
