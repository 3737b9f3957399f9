"""What an answer costs: multiply-accumulates of one image up to each timestep, counted by PyTorch's own counter."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def macs_per_timestep(model: nn.Module, timesteps: int, size: tuple[int, int, int]) -> list[float]:
    """Multiply-accumulates of one image, from the start up to and including each timestep t = 0..T.

    Counted are convolutions and matrix products, forward and (for the error gradient) backward, which are nearly all.
    Two unrolled passes are counted and the line between them continued: every update after the second costs the same.

    Args:
        model: a `TemporalClassifier`: model(images, timesteps=T).
        timesteps: T.
        size: (channels, height, width) of an image.

    Returns:
        T + 1 numbers, ascending.
    """
    counted = [_count(model, t, size) for t in range(min(timesteps, 3) + 1)]
    step = counted[-1] - counted[-2] if len(counted) > 1 else 0.0
    return counted + [counted[-1] + step * extra for extra in range(1, timesteps + 2 - len(counted))]


def _count(model: nn.Module, timesteps: int, size: tuple[int, int, int]) -> float:
    parameter = next(model.parameters())
    image = torch.full((1, *size), 0.5, device=parameter.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(image, timesteps=timesteps)
    return float(counter.get_total_flops()) / 2
