"""Which images `--data` has for training, and which accuracy is reported on."""

from pcbench.data.dataset import TEST, TRAIN
from pcbench.data.images import ImageSet, choose_positions
from pcbench.data.registry import load_part
from pcbench.errors import UserError
from pcbench.training.batches import split


def load_training_images(data: str, space: str | None = None) -> ImageSet:
    """The training images of `--data`. A test part that lies beside them is not touched.

    Args:
        data: see `pcbench.data.registry.load_part`.
        space: whose classes the labels must be; None for any.

    Raises:
        UserError: no such data, not as they should be, or labels of other classes.
    """
    images = load_part(data, TRAIN)
    assert images is not None  # or it has raised
    if space is not None and images.label_space != space:
        raise UserError(f"data {images.name} has labels of {images.label_space}; the model knows {space}")
    return images


def load_training_and_test(
    data: str, space: str, *, limit: int | None = None, held_out: float = 0.0
) -> tuple[ImageSet, ImageSet]:
    """Training images and those on which accuracy is reported.

    Args:
        data: see `pcbench.data.registry.load_part`.
        space: whose classes the model knows ("cifar10").
        limit: use this many training images, balanced over classes; and as many of the others at most.
        held_out: report on this share of the training images, which are then not trained on, instead of the test part.

    Raises:
        UserError: also labels of other classes, no test part and nothing held out.
    """
    train = load_training_images(data, space)
    train = train if limit is None else train.subset(choose_positions(train, limit))
    test: ImageSet | None
    if held_out:
        kept, reported = split(train.ids, held_out)
        train, test = train.subset(kept), train.subset(reported)
    else:
        test = load_part(data, TEST)
        if test is None:
            raise UserError(f"data {train.name} has no test part; --held-out 0.1 reports on a tenth of its images")
        test = test if limit is None else test.subset(choose_positions(test, limit))
    return train, test
