"""A data set: squares of one colour with noise, made on the spot. Real ones read files."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pcbench.data.dataset import TEST, DataSet
from pcbench.data.images import ImageSet

PALETTE = {"blue": (40, 60, 200), "green": (40, 160, 60), "grey": (128, 128, 128), "red": (200, 50, 40)}
_EACH = 8


class Colours(ImageSet):
    """32 images of 32 x 32 pixels; the class is the colour. `numbers` says which of them, in which order."""

    def __init__(self, numbers: Sequence[int] = range(_EACH * len(PALETTE))) -> None:
        self.numbers = list(numbers)
        ids = [f"colour-{number:03d}" for number in self.numbers]
        super().__init__("example-colours", "example-colours", ids, [number % len(PALETTE) for number in self.numbers])

    def raw(self, index: int) -> bytes:
        """The pixels."""
        colour = list(PALETTE.values())[self.labels[index]]
        noise = np.random.default_rng(self.numbers[index]).normal(0, 25, (32, 32, 3))
        return (np.array(colour) + noise).clip(0, 255).astype(np.uint8).tobytes()

    def decode(self, index: int, raw: bytes) -> NDArray[np.uint8]:
        """(32, 32, 3)."""
        return np.frombuffer(raw, np.uint8).reshape(32, 32, 3)

    def subset(self, indices: Sequence[int]) -> "Colours":
        """Some of them."""
        return Colours([self.numbers[index] for index in indices])


COLOURS = DataSet(
    description="32 noisy squares of four colours, 32 x 32 pixels",
    label_space="example-colours",
    at_hand=lambda: True,
    needs="",
    open=lambda part: None if part == TEST else Colours(),  # it has no parts: all is for training, or for evaluation
    classes=lambda: tuple(PALETTE),
    side=32,
)
