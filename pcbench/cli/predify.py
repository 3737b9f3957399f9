"""`pcbench predify`: write a configuration that makes a network predictive."""

from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.option("--output", type=click.Path(path_type=Path), help="TOML file to write. [default: standard output]")
@click.option("--module", "modules", multiple=True, help="Put a PCoder here, e.g. layer1 or features[3]; repeat.")
@click.option("--feedforward", type=float, default=0.8, show_default=True, help="Of every PCoder.")
@click.option("--feedback", type=float, default=0.1, show_default=True, help="Of every PCoder.")
@click.option("--pc", type=float, default=0.01, show_default=True, help="Of every PCoder.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
def command(model: str, output: Path | None, modules: tuple[str, ...], force: bool, **hyperparameters: float) -> None:
    """Write the configuration (TOML, Predify's format) that makes MODEL predictive, for editing.

    Without --module, PCoders go where the spatial size changes. Run the result with
    --model 'predify:MODEL?config=FILE'.
    """
    from pcbench.errors import UserError
    from pcbench.models.base import FeedforwardClassifier
    from pcbench.models.predictive.config import read_config, write_toml
    from pcbench.models.predictive.placement import automatic_config, explicit_config
    from pcbench.models.resolve import outline

    if output is not None and output.exists() and not force:
        raise UserError(f"{output} exists; choose another file or add --force")
    loaded = outline(model).build()  # modules as the network names them
    if not isinstance(loaded, FeedforwardClassifier):
        raise UserError(f"{model} has dynamics already; predify a feedforward network")
    if modules:
        config = explicit_config(loaded.network, loaded.input_size, modules, name=model)
    else:
        config = automatic_config(loaded.network, loaded.input_size, name=model)
    content = config.model_dump()
    for pcoder in content["pcoders"]:
        pcoder["hyperparameters"] = hyperparameters
    text = write_toml(read_config(content))
    if output is None:
        click.echo(text, nl=False)
        return
    if not output.parent.is_dir():
        raise UserError(f"no folder {output.parent} to write {output.name} in")
    output.write_text(text, encoding="utf-8")
    click.echo(f"{output}: {len(config.pcoders)} PCoders at {', '.join(pcoder.module for pcoder in config.pcoders)}")
    click.echo(f"run it with: --model 'predify:{model}?config={output}'")
