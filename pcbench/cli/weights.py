"""`pcbench weights import|export|verify`: feedback weights to and from published files."""

from pathlib import Path

import click


@click.group("weights")
def command() -> None:
    """Import published feedback weights, export ours to the published layout, verify files."""


@command.command("import")
@click.argument("model")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--weights", help="The tag that they belong to. [default: the model's first]")
@click.option("--output", type=click.Path(path_type=Path), help="File to write. [default: where the model looks]")
@click.option("--half", is_flag=True, help="Store them in half precision.")
def import_(model: str, files: tuple[Path, ...], weights: str | None, output: Path | None, half: bool) -> None:
    """Convert published feedback weights of MODEL, one file per PCoder (FILES, or one folder of them).

    Both published layouts are known: bare state dicts (pvgg16_imagenet_pretrained_pc1_pmodule.pth, ...) and dicts with
    `pcoderweights` (pnet_pretrained_pc1_9.pth, ...). The order comes from the numbers in their names.
    """
    from pcbench.models.checkpoints import Metadata, save
    from pcbench.models.published import import_published
    from pcbench.training.start import feedback_place, structure

    network = structure(model, weights)
    paths = [*files]
    if len(files) == 1 and files[0].is_dir():
        paths = sorted(path for path in files[0].iterdir() if path.suffix in (".pth", ".pt"))
    tensors = import_published(network.network, paths)
    target = output or feedback_place(model, network.weights)
    metadata = Metadata(
        architecture=network.name,
        configuration=str(network.provenance["configuration"]),
        data="not recorded in the published files",
        recipe="imported from " + ", ".join(path.name for path in paths),
    )
    written = save(target, tensors, metadata, half=half)
    click.echo(f"{len(tensors)} tensors of {len(paths)} PCoders, checksum {written.checksum[:12]}: {target}")
    if output is None:
        click.echo(f"pcbench run --model '{network.name}' --weights {network.weights} uses them now")


@command.command("export")
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--weights", help="Tag of the weights. [default: the model's first]")
@click.option("--file", "source", type=click.Path(path_type=Path), help="Export this file instead of the tag's.")
@click.option(
    "--layout",
    type=click.Choice(["pmodule", "pcoderweights"]),
    default="pcoderweights",
    show_default=True,
    help="Bare state dicts, or dicts with pcoderweights and C_sqrt.",
)
def export(model: str, folder: Path, weights: str | None, source: Path | None, layout: str) -> None:
    """Write MODEL's feedback weights into FOLDER as Predify reads them, one file per PCoder."""
    import io

    import torch

    from pcbench.errors import UserError
    from pcbench.models.checkpoints import feedback_tensors, load_feedback
    from pcbench.models.published import export_published
    from pcbench.training.folder import write_whole
    from pcbench.training.start import feedback_source, structure

    network = structure(model, weights)
    path = source or feedback_source(model, network.weights).path()
    identity = str(network.provenance["configuration"])
    load_feedback(network.network, path, architecture=network.name, configuration=identity)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    contents = export_published(network.network, feedback_tensors(network.network), layout)
    for n, content in enumerate(contents, start=1):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        name = f"{network.name.replace(':', '-').replace('/', '-')}_pc{n}_{layout}.pth"
        write_whole(folder / name, buffer.getvalue())
    click.echo(f"{len(contents)} files in {folder}")


@command.command("verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", help="Also check that the tensors fit this predictive network.")
def verify(files: tuple[Path, ...], model: str | None) -> None:
    """Check that FILES in pcbench's own format are whole, and say what they hold."""
    from pcbench.models.checkpoints import load_feedback, read
    from pcbench.training.start import structure

    network = None if model is None else structure(model)
    for path in files:
        checkpoint = read(path)
        if network is not None:
            identity = str(network.provenance["configuration"])
            load_feedback(network.network, path, architecture=network.name, configuration=identity)
        facts = checkpoint.metadata
        values = sum(tensor.numel() for tensor in checkpoint.tensors.values())
        click.echo(f"{path.name}: good, {len(checkpoint.tensors)} tensors, {values:,} values, for {facts.architecture}")
        for name in ("data", "recipe", "configuration", "checksum"):
            click.echo(f"  {name}: {getattr(facts, name) or 'not recorded'}")
