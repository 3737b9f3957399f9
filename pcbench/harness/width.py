"""Whether the networks of a run and the labels of its images are about the same classes, seen before a sweep."""

from collections.abc import Sequence

import torch

from pcbench.data.classes import class_names
from pcbench.data.images import ImageSet
from pcbench.data.registry import choose_data, load_data
from pcbench.errors import UserError
from pcbench.harness.evaluate import out_of_memory
from pcbench.models.base import TemporalClassifier


def images_for(data: str | None, label_space: str, models: Sequence[TemporalClassifier]) -> tuple[ImageSet, str | None]:
    """The images of a run, and a notice where something was chosen.

    Args:
        data: as the user named it; None for what is at hand.
        label_space: whose classes the networks know; or "N classes", for networks that declare their number only.
        models: the networks.

    Raises:
        UserError: no such data, labels of other classes, or a network with another number of logits than classes.
    """
    if not label_space.endswith(" classes"):
        images, notice = choose_data(data, label_space)
    elif data is None:
        raise UserError(f"the model declares {label_space} and not whose; name the data: --data NAME|PATH")
    else:
        images = load_data(data)
        notice = f"labels: logit i is taken for class i of {images.label_space}; the model declares {label_space} only"
    for model in models:
        check_width(model, images.label_space, images.labels)
    return images, notice


def check_width(model: TemporalClassifier, label_space: str, labels: Sequence[int] = ()) -> None:
    """Refuse a network whose answers have another number of logits than the labels have classes.

    Args:
        model: on its device, in eval mode; it is asked about one grey image at t = 0.
        label_space: whose classes the labels are, e.g. "cifar10".
        labels: of the images; where nobody says how many classes there are, the largest needs a logit.

    Raises:
        UserError: the numbers differ, or the answers are of another form.
    """
    name = model.name or "the model"
    image = torch.full((1, *model.input_size), 0.5, device=model.mean.device)
    try:
        with torch.inference_mode():
            shape = tuple(model(image, timesteps=0).shape)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):  # the sweep will say so, with what to do
            return
        raise
    if len(shape) != 3 or shape[:2] != (1, 1):
        raise UserError(f"{name} gives answers {shape} for one image at t = 0; it must give (1, 1, classes)")
    try:
        classes = len(class_names(label_space))
    except UserError:  # a plug-in's data, which may say no more than the labels
        if (largest := max(labels, default=0)) >= shape[2]:
            raise UserError(f"{name} gives {shape[2]} logits for each image; label {largest} has none") from None
        return
    if shape[2] != classes:
        raise UserError(f"{name} gives {shape[2]} logits for each image; the labels are of {label_space}: {classes}")
