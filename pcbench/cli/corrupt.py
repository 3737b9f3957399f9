"""`pcbench corrupt`: write a corrupted copy of a data set, or draw all corruptions of one image."""

from pathlib import Path

import click


@click.command()
@click.option("--data", metavar="NAME|PATH", help="The images to corrupt (see `pcbench data`).")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Where to write; a picture's file name.")
@click.option("--preview", type=click.Path(path_type=Path), metavar="IMAGE", help="Draw all corruptions of an image.")
@click.option("--name", "names", multiple=True, metavar="NAME", help="A corruption; repeats. Default: the 15.")
@click.option("--severity", "severities", multiple=True, type=int, metavar="1-5", help="Repeats. Default: all five.")
@click.option("--limit", type=int, metavar="N", help="Take N images only, balanced over classes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random numbers.")
@click.option("--format", "form", default="jpeg", show_default=True, help="jpeg (quality 85, as ImageNet-C) or png.")
@click.option("--size", type=int, default=224, show_default=True, help="Side of photographs; crop of 256.")
@click.option("--frost-textures", type=int, default=5, show_default=True, help="5, as ImageNet-C, or all 6.")
@click.option("--backend", default="native", show_default=True, help="native or reference.")
@click.option("--variant", default="auto", show_default=True, help="imagenet-c, cifar-c, or auto: by the image size.")
def command(
    data: str | None,
    output: Path | None,
    preview: Path | None,
    names: tuple[str, ...],
    severities: tuple[int, ...],
    limit: int | None,
    seed: int,
    form: str,
    size: int,
    frost_textures: int,
    backend: str,
    variant: str,
) -> None:
    """Write a corrupted copy: OUTPUT/<corruption>/<severity>/<class>/<file>, with a manifest; goes on where it stopped.

    Examples:
      pcbench corrupt --data imagenet --output imagenet-c
      pcbench corrupt --preview photo.jpg --output sheet.png
    """
    from pcbench.errors import UserError, did_you_mean
    from pcbench.perturbations.corruptions import BACKENDS, BENCHMARK_NAMES, NAMES, SEVERITIES
    from pcbench.perturbations.corruptions.engine import check_means

    for what, value, known in (
        *(("corruption", name, NAMES) for name in names),
        ("corruption backend", backend, BACKENDS),
        ("corruption variant", variant, ("auto", "imagenet-c", "cifar-c")),
        ("format", form, ("jpeg", "png")),
    ):
        if value not in known:
            raise UserError(f"no {what} {value!r}; {did_you_mean(value, known)}")
    for severity in severities:
        if severity not in SEVERITIES:
            raise UserError(f"a corruption's severity is a whole number from 1 to 5, not {severity}")
    check_means(backend, frost_textures)
    if size < 32:
        raise UserError(f"images to corrupt are at least 32 pixels wide; --size is {size}")
    if (data is None) == (preview is None):
        raise UserError("name either --data, to write a corrupted copy, or --preview IMAGE, to draw a sheet")
    if preview is not None:
        _preview(preview, output or Path("corruptions.png"), seed, variant, size)
        return
    assert data is not None
    if output is None:
        raise UserError("name the folder to write to: --output DIR")
    settings: dict[str, object] = {
        "names": list(names or BENCHMARK_NAMES),
        "severities": list(severities or SEVERITIES),
        "seed": seed,
        "variant": variant,
        "backend": backend,
        "frost_textures": frost_textures,
        "format": form,
    }
    _write(data, output, limit, size, settings)


def _preview(image: Path, output: Path, seed: int, variant: str, size: int) -> None:
    from pcbench.data.geometry import Geometry
    from pcbench.data.images import decode_file, read_image
    from pcbench.errors import UserError
    from pcbench.figures.corruptions import contact_sheet

    if output.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UserError(f"a sheet is written as .png, .svg or .pdf, not as {output.name}")
    pixels = decode_file(image.name, read_image(image, image.name))
    if pixels.shape[:2] != (32, 32):
        pixels = Geometry((size, size), round(size * 256 / 224)).prepare(pixels)
    figure = contact_sheet(pixels, seed=seed, variant=variant)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    click.echo(f"wrote {output}")


def _write(data: str, output: Path, limit: int | None, size: int, settings: dict[str, object]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pcbench.data.classes import class_names
    from pcbench.data.dataset import DATA
    from pcbench.data.geometry import Geometry
    from pcbench.data.images import choose_positions
    from pcbench.data.registry import load_data
    from pcbench.errors import UserError
    from pcbench.perturbations.corruptions.export import write_copy

    images = load_data(data)
    if not images.has_clean:
        raise UserError(f"data {images.name} is a corrupted copy already")
    images = images.subset(choose_positions(images, limit))
    folders, side = class_names(images.label_space), DATA[images.label_space].side
    geometry = Geometry((size, size), round(size * 256 / 224))
    settings |= {"data": images.name, "images": len(images), "size": side or size}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("files")
        manifest = write_copy(
            lambda i: images.read(i) if side else geometry.prepare(images.read(i)),
            images.ids,
            [folders[label] for label in images.labels],
            output,
            settings,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    click.echo(f"wrote {manifest}")
