"""`cifar100`: the CIFAR-100 test images; `samples-cifar100`: 20 of them, from Foolbox."""

from pcbench.data.dataset import DATA
from pcbench.data.foolbox_samples import foolbox_samples
from pcbench.data.paths import users_copy
from pcbench.data.torchvision_files import torchvision_download, torchvision_form

# The "fine" labels, in the order of the published files' meta data.
CLASSES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905 - a list would take a line a class
)
VARIABLE = "PCBENCH_CIFAR100"

DATA.register(
    "cifar100",
    users_copy(
        "cifar100",
        "10,000 CIFAR-100 test images",
        VARIABLE,
        f"set {VARIABLE} to torchvision's folder (`pcbench data cifar100 --download DIR` fetches it, 169 MB), to a "
        ".npz file with x_test and y_test, or to a folder with one folder a class (apple, ...), or with test/ of that "
        "form",
        classes=lambda: CLASSES,
        side=32,
        test_images=10_000,
        samples="samples-cifar100",
        forms=(torchvision_form("cifar100", "CIFAR100", "cifar-100-python"),),
        download=torchvision_download("CIFAR100", VARIABLE),
    ),
)
DATA.register(
    "samples-cifar100",
    foolbox_samples("samples-cifar100", "cifar100", "20 labelled CIFAR-100 test images that Foolbox ships"),
)
