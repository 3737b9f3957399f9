"""Convolutional recurrent networks: every cell in every graph, for ImageNet's image size and for CIFAR's."""

from collections.abc import Mapping

from pcbench.models.base import IMAGENET_224, TemporalClassifier
from pcbench.models.convrnn.graph import GraphFile, make_graph, shipped_graphs
from pcbench.models.convrnn.network import ConvRNN
from pcbench.models.options import Json, Option, number
from pcbench.models.own import own_network, trained_here
from pcbench.models.spec import MODELS, ModelSpec, Weights
from pcbench.models.vgg import CIFAR10

CONTROL = "feedforward"


# Tags for 32 x 32 images: tag -> width, description.
WIDTHS = {
    "cifar10": (1.0, "full width"),
    "cifar10-half": (0.5, "half width"),
    "cifar10-quarter": (0.25, "quarter width"),
}
MATCHED = (1.6, "as many parameters as reciprocal gated cells at half width")  # in the shallow graph


def _weights(name: str, cell: str, geometry: str | None) -> tuple[Weights, ...]:
    if geometry is None:
        source = trained_here(name, "imagenet1k", "convrnn", "IMAGES_OF_224x224")
        return (Weights("imagenet1k", IMAGENET_224, 1000, "imagenet", {"network": source}, {}, "full width"),)
    widths = {**WIDTHS, "cifar10-matched": MATCHED} if cell == CONTROL else WIDTHS
    recipe = "classifier" if cell == CONTROL else "convrnn"
    # a network at half width is compared with a control of as many parameters
    control = {"cifar10-half": "cifar10-matched"} if cell != CONTROL else {}
    return tuple(
        Weights(
            tag,
            CIFAR10,
            10,
            "cifar10",
            {"network": trained_here(name, tag, recipe)},
            {"width": width},
            about,
            baseline=control.get(tag),
        )
        for tag, (width, about) in widths.items()
    )


def _register(file: GraphFile, cell: str, geometry: str | None) -> None:
    prefix = file.name if cell == file.name else f"convrnn-{cell}-{file.name}"
    ending = f"-{geometry}" if geometry else ""
    control = f"convrnn-{CONTROL}-{file.name}{ending}"
    graph = make_graph(file, cell, geometry)

    def build(spec: ModelSpec, weights: Weights, options: Mapping[str, Json], seed: int) -> TemporalClassifier:
        width = float(str({**weights.options, **options}.get("width", 1.0)))
        model, record = own_network(
            lambda: ConvRNN(make_graph(file, cell, geometry, width), weights.num_classes, weights.preprocessing),
            spec.name,
            {"graph": file.name, "cell": cell, "geometry": geometry, "width": width},
            weights,
            seed,
        )
        model.provenance = record
        return model

    size = "32 x 32" if geometry else "224 x 224"
    what = "no recurrence, the control" if cell == CONTROL else f"{cell} cells"
    MODELS.register(
        prefix + ending,
        ModelSpec(
            name=prefix + ending,
            family="recurrent" if graph.has_dynamics else "feedforward",
            description=f"{file.description.split(',')[0]}, {what}, {size} images",
            build=build,
            weights=_weights(prefix + ending, cell, geometry),
            timesteps=graph.timesteps if graph.has_dynamics else 0,
            baseline=control if CONTROL in _CELLS_OF[file.name] and cell != CONTROL else None,
            options={"width": Option("factor on the channels; 1 is the published width", number)},
        ),
    )


_FILES = shipped_graphs()
_CELLS_OF: dict[str, set[str]] = {}
for _file in _FILES.values():
    _CELLS_OF.setdefault(_file.name, set()).update(_file.cells)
for _file in _FILES.values():
    for _cell in _file.cells:
        for _geometry in (None, *_file.geometry):
            _register(_file, _cell, _geometry)
