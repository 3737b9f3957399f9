"""A portion of images, and what the severities of a corruption want to know of it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import cv2
import numpy as np
import torch
from torch import Tensor

from pcbench.perturbations.corruptions.constants import Constants
from pcbench.perturbations.corruptions.kernels import on_cpu

T = TypeVar("T")


class Pictures:
    """A portion of images that is corrupted at several severities, one after another.

    Attributes:
        images: (B, H, W, 3) uint8, contiguous.
        severities: the constants of all severities that are made of it.
    """

    def __init__(self, images: Tensor, severities: Sequence[Constants]) -> None:
        self.images = images
        self.severities = tuple(dict.fromkeys(severities))
        self._known: dict[Callable[[Pictures], Any], Any] = {}

    def of(self, common: Callable[["Pictures"], T]) -> T:
        """common(self), made once, however many severities ask for it. They share it: nobody writes to it."""
        if common not in self._known:
            self._known[common] = common(self)
        return cast("T", self._known[common])


def floats(pictures: Pictures) -> Tensor:
    """(B, H, W, 3) float32, 0..255."""
    return pictures.images.to(torch.float32)


def channels(pictures: Pictures) -> list[Tensor]:
    """Red, green and blue: (B, H, W) float32 each."""
    return [channel.to(torch.float32) for channel in pictures.images.unbind(3)]


def value(pictures: Pictures) -> Tensor:
    """V of HSV, 0..255: (B, H, W) float32."""
    red, green, blue = pictures.of(channels)
    return torch.maximum(torch.maximum(red, green), blue)


def interleaved(planes: Sequence[Tensor]) -> Tensor:
    """The inverse of `channels`: (B, H, W) three times -> (B, H, W, 3), all float32."""
    if on_cpu(planes[0]):
        arrays = [plane.numpy() for plane in planes]
        return torch.from_numpy(np.stack([cv2.merge(image) for image in zip(*arrays, strict=True)]))
    return torch.stack(list(planes), 3)
