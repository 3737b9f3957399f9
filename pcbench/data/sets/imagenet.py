"""`imagenet`: the user's own copy of the ImageNet validation images; `samples`: 20 of them, from Foolbox."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module

from pcbench.data.dataset import DATA
from pcbench.data.foolbox_samples import foolbox_samples
from pcbench.data.paths import users_copy

VARIABLE = "PCBENCH_IMAGENET"


@cache
def wordnet_ids() -> Sequence[str]:
    """The WordNet ids of the 1,000 classes in canonical order (timm carries the list)."""
    return tuple(import_module("timm.data").ImageNetInfo().label_names())  # here: importing timm takes a second


DATA.register(
    "imagenet",
    users_copy(
        "imagenet",
        "ImageNet validation images",
        VARIABLE,
        f"set {VARIABLE} to a folder with one folder a class, named by WordNet id (n01440764, ...), or with val/ of "
        "that form; any subset of the classes works (get the images from https://image-net.org)",
        classes=wordnet_ids,
        samples="samples",
    ),
)
DATA.register(
    "samples", foolbox_samples("samples", "imagenet", "20 labelled ImageNet validation images that Foolbox ships")
)
