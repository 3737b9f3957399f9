"""Whether a network's logits are for the classes that labels mean, seen on one image before a sweep begins."""

import torch

from pcbench.data.classes import class_names
from pcbench.errors import UserError
from pcbench.models.base import TemporalClassifier


def check_width(model: TemporalClassifier, label_space: str) -> None:
    """Refuse a network whose answers have another number of logits than the labels have classes.

    Args:
        model: on its device, in eval mode; it is asked about one grey image at t = 0.
        label_space: whose classes the labels are, e.g. "cifar10".

    Raises:
        UserError: the numbers differ, or the answers are of another form.
    """
    classes, name = len(class_names(label_space)), model.name or "the model"
    image = torch.full((1, *model.input_size), 0.5, device=model.mean.device)
    with torch.inference_mode():
        shape = tuple(model(image, timesteps=0).shape)
    if len(shape) != 3 or shape[:2] != (1, 1):
        raise UserError(f"{name} gives answers {shape} for one image at t = 0; it must give (1, 1, classes)")
    if shape[2] != classes:
        raise UserError(
            f"{name} gives {shape[2]} logits for each image; the labels are those of {label_space}: {classes}"
        )
