"""`cifar10`: the CIFAR-10 test images; `samples-cifar10`: 20 of them, from Foolbox."""

from pcbench.data.dataset import DATA
from pcbench.data.foolbox_samples import foolbox_samples
from pcbench.data.paths import users_copy
from pcbench.data.torchvision_files import torchvision_download, torchvision_form

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
VARIABLE = "PCBENCH_CIFAR10"

DATA.register(
    "cifar10",
    users_copy(
        "cifar10",
        "10,000 CIFAR-10 test images",
        VARIABLE,
        f"set {VARIABLE} to torchvision's folder (`pcbench data cifar10 --download DIR` fetches it, 170 MB), to a .npz "
        "file with x_test and y_test, or to a folder with one folder a class (airplane, ...), or with test/ of that "
        "form",
        classes=lambda: CLASSES,
        side=32,
        test_images=10_000,
        samples="samples-cifar10",
        forms=(torchvision_form("cifar10", "CIFAR10", "cifar-10-batches-py"),),
        download=torchvision_download("CIFAR10", VARIABLE),
    ),
)
DATA.register(
    "samples-cifar10",
    foolbox_samples("samples-cifar10", "cifar10", "20 labelled CIFAR-10 test images that Foolbox ships"),
)
