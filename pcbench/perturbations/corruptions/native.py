"""The native engine: which function makes which corruption, and in what portions."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from pcbench.perturbations.corruptions import blur, digital, noise, weather
from pcbench.perturbations.corruptions.constants import CONSTANTS, Constants, Variant
from pcbench.perturbations.corruptions.draws import Draws
from pcbench.perturbations.corruptions.pictures import Pictures
from pcbench.perturbations.corruptions.rounding import to_uint8
from pcbench.perturbations.corruptions.spatter import spatter

Function = Callable[[Pictures, Constants, Draws], Tensor]

_FUNCTIONS: dict[str, Function] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "speckle_noise": noise.speckle_noise,
    "defocus_blur": blur.defocus_blur,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "zoom_blur": blur.zoom_blur,
    "gaussian_blur": blur.gaussian_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "spatter": spatter,
    "contrast": digital.contrast,
    "elastic_transform": digital.elastic_transform,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "saturate": digital.saturate,
}

# Values worked on at a time: on a CPU what fits into its caches, on other devices what fills them.
_PORTION_CPU, _PORTION_OTHER = 2**18, 2**25


def corrupt_native(
    images: Tensor,
    name: str,
    severities: Sequence[int],
    variant: Variant,
    seed: int,
    ids: Sequence[str],
    frost_textures: int = 5,
) -> Tensor:
    """Corrupt a batch at several severities, a few images at a time: work that severities have in common is done once.

    Args:
        images: (B, H, W, 3) uint8 of any device.
        name: one of constants.NAMES.
        severities: of 1-5, K of them.
        variant: whose constants.
        seed: of the run.
        ids: B image ids.
        frost_textures: how many textures frost draws from, 5 or 6.

    Returns:
        (K, B, H, W, 3) uint8 on the same device. Each severity as it would be without the others.
    """
    function = partial(weather.frost, textures=frost_textures) if name == "frost" else _FUNCTIONS[name]
    constants = [CONSTANTS[variant][name][severity - 1] for severity in severities]
    portion = _PORTION_CPU if images.device.type == "cpu" else _PORTION_OTHER
    count = max(1, portion // max(1, images[:1].numel()))
    out = torch.empty((len(severities), *images.shape), dtype=torch.uint8, device=images.device)
    with torch.inference_mode():
        for start in range(0, len(images), count):
            part = slice(start, start + count)
            pictures = Pictures(images[part].contiguous(), constants)
            for made, severity, wanted in zip(out, severities, constants, strict=True):
                draws = Draws.for_images(seed, ids[part], name, severity, images.device)
                result = function(pictures, wanted, draws)
                made[part] = result if result.dtype == torch.uint8 else to_uint8(result)
    return out
