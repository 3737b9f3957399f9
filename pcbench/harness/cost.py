"""What an answer costs: multiply-accumulates of one image at each timestep, counted by PyTorch's own counter."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pcbench.models.base import TemporalClassifier

Size = tuple[int, int, int]


def macs_per_timestep(model: TemporalClassifier, timesteps: int, size: Size) -> list[float]:
    """Multiply-accumulates of one image's answer at each timestep t = 0..T, with all that has to come before it.

    Counted are convolutions and matrix products, forward and (for the error gradient) backward, which are nearly all.

    Args:
        model: its answers are counted as `TemporalClassifier.at` gives them.
        timesteps: T.
        size: (channels, height, width) of an image.

    Returns:
        T + 1 numbers, ascending.
    """
    return _continued(lambda images, t: model.at(t)(images), model, timesteps, size)


def macs_unrolled(model: TemporalClassifier, timesteps: int, size: Size) -> list[float]:
    """The same of all answers at 0..t together, as a run computes them.

    For dynamics these are the costs of the last answer; a control whose answers do not build on each other
    (`pcbench.models.controls.Diffusion`) needs less for one than for all.
    """
    return _continued(lambda images, t: model(images, timesteps=t), model, timesteps, size)


def _continued(
    answer: Callable[[Tensor, int], Tensor], model: TemporalClassifier, timesteps: int, size: Size
) -> list[float]:
    """Counts at t = 0..3, and the line between the last two continued: every later update costs the same."""
    image = torch.full((1, *size), 0.5, device=model.mean.device)
    counted = []
    for t in range(min(timesteps, 3) + 1):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            answer(image, t)
        counted.append(float(counter.get_total_flops()) / 2)
    step = counted[-1] - counted[-2] if len(counted) > 1 else 0.0
    return counted + [counted[-1] + step * extra for extra in range(1, timesteps + 2 - len(counted))]


def costs_of(
    model: TemporalClassifier, timesteps: int, size: Size, dtype: torch.dtype
) -> tuple[list[float], list[float]]:
    """(of one answer at t, of all answers at 0..t), for t = 0..T, in 1e9 multiply-accumulates.

    Raises:
        RuntimeError, NotImplementedError, TypeError, ValueError: the counter does not understand a user's own model.
    """
    with torch.autocast(model.mean.device.type, dtype, dtype != torch.float32):
        alone = together = macs_per_timestep(model, timesteps, size)
        if type(model).at is not TemporalClassifier.at:  # one answer takes less than all before it
            together = macs_unrolled(model, timesteps, size)
    return [value / 1e9 for value in alone], [value / 1e9 for value in together]
