"""`imagenet`: the user's own copy of the ImageNet validation images."""

from pcbench.data.folder import read_folder
from pcbench.data.registry import register_copy

VARIABLE = "PCBENCH_IMAGENET"
NEEDS = (
    f"set {VARIABLE} to a folder with one folder a class, named by WordNet id (n01440764, ...), or with val/ of that "
    "form; any subset of the classes works (get the images from https://image-net.org)"
)

register_copy("imagenet", "ImageNet validation images", VARIABLE, NEEDS, lambda path: read_folder(path, "imagenet"))
