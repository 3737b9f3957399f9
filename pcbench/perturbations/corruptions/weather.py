"""The weather corruptions. Each takes pictures and gives (B, H, W, 3) float32 on the scale 0..255."""

from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pcbench.perturbations.corruptions.blur import motion
from pcbench.perturbations.corruptions.constants import Constants
from pcbench.perturbations.corruptions.draws import Draws
from pcbench.perturbations.corruptions.kernels import compiled, on_cpu
from pcbench.perturbations.corruptions.pictures import Pictures, channels, floats, interleaved, value
from pcbench.perturbations.corruptions.zoom import add_zoomed

# Of the six, the code that made ImageNet-C draws from the first five.
TEXTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")
_LUMINANCE = (0.299, 0.587, 0.114)


def brightness(pictures: Pictures, constants: Constants, draws: Draws) -> Tensor:
    """Adds c0 to the value of HSV (hue and saturation stay), which scales the three channels together.

    Within 1 grey level of the reference in over 99.9 % of the values.
    """
    top = pictures.of(value)
    raised = (top + 255 * constants[0]).clamp_(max=255)
    ratio = raised / top.clamp(min=1)
    black = torch.where(top == 0, raised, torch.zeros_like(raised))
    return interleaved([torch.addcmul(black, channel, ratio) for channel in pictures.of(channels)])


def fog(pictures: Pictures, constants: Constants, draws: Draws) -> Tensor:
    """Adds c0 times a random height map (diamond-square, falling off by c1 a level), and scales to the old maximum.

    The definition given the same displacements, to 1 grey level in 99.9 % of the values; mean RMSE within 0.5 % of the
    original code over 2,000 maps (one map changes an image's RMSE by 15 %), power of 64 maps within 10 % in every
    octave.
    """
    amount, decay = constants
    height, width = pictures.images.shape[1:3]
    size = 2 ** (max(height, width) - 1).bit_length()
    layer = height_map(draws.uniform((size, size)), decay)[:, :height, :width, None].mul_(255 * amount)
    highest = pictures.of(maximum)
    scale = highest / (highest + 255 * amount)
    return (pictures.of(floats) + layer).mul_(scale)


def maximum(pictures: Pictures) -> Tensor:
    """(B, 1, 1, 1) float32: the highest value of each image."""
    return pictures.images.flatten(1).amax(1).to(torch.float32)[:, None, None, None]


def height_map(noise: Tensor, decay: float) -> Tensor:
    """Diamond-square heights in 0..1, periodic at the borders.

    Args:
        noise: (B, S, S) uniform in (-1, 1), S a power of 2: the displacement of each point.
        decay: by what the displacement's scale falls from one level to the next; what is added is the scale squared.

    Returns:
        (B, S, S) float32.
    """
    if on_cpu(noise):
        maps = np.zeros(noise.shape, np.float32)
        _heights_loop(noise.numpy(), decay, maps)
        heights = torch.from_numpy(maps)
    else:
        heights = _heights_torch(noise, decay)
    heights -= heights.amin((1, 2), keepdim=True)
    return heights.div_(heights.amax((1, 2), keepdim=True))


def _heights_torch(noise: Tensor, decay: float) -> Tensor:
    heights = torch.zeros_like(noise)
    step, scale = noise.shape[1], 100.0
    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        squares = noise[:, half::step, half::step] * scale**2 + (pairs + pairs.roll(-1, 2)) / 4
        heights[:, half::step, half::step] = squares
        for axis, points in ((1, (slice(None, None, step), slice(half, None, step))), (2, None)):
            rows, columns = points or (slice(half, None, step), slice(None, None, step))
            neighbours = squares + squares.roll(1, axis) + corners + corners.roll(-1, 3 - axis)
            heights[:, rows, columns] = noise[:, rows, columns] * scale**2 + neighbours / 4
        step, scale = half, scale / decay
    return heights


@compiled
def _heights_loop(noise: npt.NDArray[np.float32], decay: float, out: npt.NDArray[np.float32]) -> None:
    size = noise.shape[1]
    for image in range(noise.shape[0]):
        drawn, heights = noise[image], out[image]
        step, scale = size, 100.0
        while step >= 2:
            half, amount = step // 2, np.float32(scale * scale)
            for y in range(0, size, step):
                for x in range(0, size, step):
                    below, right = (y + step) % size, (x + step) % size
                    around = heights[y, x] + heights[below, x] + heights[y, right] + heights[below, right]
                    heights[y + half, x + half] = drawn[y + half, x + half] * amount + around * np.float32(0.25)
            for y in range(0, size, step):
                above, below = (y - half) % size, (y + step) % size
                for x in range(0, size, step):
                    left, right = (x - half) % size, (x + step) % size
                    middle = heights[y + half, x + half] + heights[y, x]
                    top = middle + heights[above, x + half] + heights[y, right]
                    side = middle + heights[y + half, left] + heights[below, x]
                    heights[y, x + half] = drawn[y, x + half] * amount + top * np.float32(0.25)
                    heights[y + half, x] = drawn[y + half, x] * amount + side * np.float32(0.25)
            step, scale = half, scale / decay


def frost(pictures: Pictures, constants: Constants, draws: Draws, textures: int = 5) -> Tensor:
    """c0 times the image plus c1 times a random part of one of the first five (or all six) photographs of frost.

    The original definition given the same texture and position, to 1 grey level (the reference enlarges textures);
    mean RMSE within 1 % of the definition's over 4,000 draws. One draw of 20 images spreads by 6 %, since a texture
    can change an image twice as much as another.
    """
    keep, amount = constants
    height, width = pictures.images.shape[1:3]
    parts = []
    for which, top, left in draws.scalars(3):
        texture = frost_texture(int(which * textures), height, width)
        y, x = int(top * (texture.shape[0] - height)), int(left * (texture.shape[1] - width))
        parts.append(texture[y : y + height, x : x + width])
    return (pictures.of(floats) * keep).add_(torch.stack(parts).to(pictures.images.device), alpha=amount)


@lru_cache(maxsize=64)
def frost_texture(which: int, height: int, width: int) -> Tensor:
    """(H, W, 3) uint8: a texture of `TEXTURES`, larger than height x width.

    At 32 x 32 pixels it is a fifth of the file (every fifth pixel, as CIFAR-C's linear resizing has it); for images
    larger than the file it is enlarged.
    """
    with _texture_file(which).open("rb") as file:
        texture = torch.from_numpy(np.array(Image.open(file).convert("RGB")))
    if (height, width) == (32, 32):
        return texture[2::5, 2::5].contiguous()
    factor = max((height + 1) / texture.shape[0], (width + 1) / texture.shape[1])
    if factor <= 1:
        return texture
    size = [int(np.ceil(side * factor)) for side in texture.shape[:2]]
    planes = texture.permute(2, 0, 1)[None].to(torch.float32)
    planes = functional.interpolate(planes, size=size, mode="bicubic").add_(0.5).clamp_(0, 255)
    return planes[0].permute(1, 2, 0).to(torch.uint8).contiguous()


def _texture_file(which: int) -> Traversable:
    return files(__package__) / "frost" / TEXTURES[which]


def snow(pictures: Pictures, constants: Constants, draws: Draws) -> Tensor:
    """Whitens the image and adds flakes: thresholded noise, enlarged and moved along a random steep line.

    c0, c1: mean and deviation of the noise; c2: enlargement; c3: threshold; c4, c5: radius and deviation of the
    motion; c6: how much of the image is kept from whitening.

    The definition given the same noise and angle, with the reference's motion blur, to 1 grey level in 99.9 %; mean
    RMSE within 0.7 % of the original code, power within 7 % in every octave.
    """
    mean, deviation, zoom, threshold, radius, spread, keep = constants
    height, width = pictures.images.shape[1:3]
    flakes = draws.normal((height, width, 1)).mul_(deviation).add_(mean)
    enlarged = torch.zeros_like(flakes)
    add_zoomed(enlarged[None], [0], flakes, zoom)
    flakes = torch.where(enlarged < threshold, torch.zeros_like(flakes), enlarged.clamp(0, 1))
    flakes = motion(flakes, radius, spread, draws.scalars(1)[:, 0] * 90 - 135).mul_(255).round_()
    flakes = flakes + flakes.flip(1, 2)
    return (pictures.of(white) * (1 - keep)).add_(pictures.of(floats), alpha=keep).add_(flakes)


def white(pictures: Pictures) -> Tensor:
    """(B, H, W, 3) float32: an image lost in snow, no darker than its luminance brightened."""
    x = pictures.of(floats)
    grey = torch.mv(x.view(-1, 3), torch.tensor(_LUMINANCE, device=x.device)).view(*x.shape[:3], 1)
    return torch.maximum(x, grey.mul_(1.5).add_(255 * 0.5))
