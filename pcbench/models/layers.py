"""What happens to activations inside VGG16 and its Hebbian relatives, layer by layer: sparsity, and signal to noise."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import torch
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.models.base import TemporalClassifier
from pcbench.models.hah import HaHBlock
from pcbench.models.vgg import VGG16, Block
from pcbench.randomness import normal_like


def layer_diagnostics(
    model: TemporalClassifier, batches: Iterable[tuple[Sequence[str], Tensor]], sigmas: Sequence[float], seed: int = 0
) -> pd.DataFrame:
    """Sparsity and signal-to-noise ratio of each layer under Gaussian noise, after Cekic, Bakiskan, Madhow 2022.

    With x the input of a layer's convolution, the ratio is 10 log10 of the mean over images of
    |x clean|^2 / |x noisy - x clean|^2. A unit is active where the layer's activation (of a HaH block its output, of a
    VGG block its rectification) is above 0.

    Args:
        model: of the VGG16 family.
        batches: (ids, images (B, C, H, W) in [0, 1]); noise depends on seed, id and sigma alone, and is clipped.
        sigmas: standard deviations of the noise, in units of images in [0, 1], above 0.
        seed: of the noise.

    Returns:
        One row for each layer and sigma: layer (from 1), block ("HaHBlock", "VGGBlock"), sigma, snr_db, active and
        active_noisy (shares of units, in [0, 1], without and with noise).

    Raises:
        UserError: another kind of network, no sigma, or one that is not above 0.
    """
    network = getattr(model, "network", None)
    if not isinstance(network, VGG16):
        raise UserError(
            f"{model.name} has no layers of the VGG16 family; those that have: vgg16-cifar, hah-vgg16 and its variants"
        )
    if not sigmas or not all(0 < sigma < float("inf") for sigma in sigmas):
        raise UserError(f"sigmas are {', '.join(f'{s:g}' for s in sigmas) or 'none'}; they are numbers above 0")
    blocks = [block for _, block in network.blocks()]
    totals = torch.zeros(len(sigmas), len(blocks), 3, dtype=torch.float64)  # ratios, active, active under noise
    count = 0
    with torch.inference_mode():
        for ids, images in batches:
            count += len(images)
            clean = _pass(model, blocks, images)
            for row, sigma in enumerate(sigmas):
                noise = normal_like(images, seed, list(ids), "layer diagnostics", sigma)
                noisy = _pass(model, blocks, (images + sigma * noise).clamp(0, 1))
                for column, ((x, a), (x_noisy, a_noisy)) in enumerate(zip(clean, noisy, strict=True)):
                    signal = x.double().flatten(1).square().sum(dim=1)
                    ratios = signal / (x_noisy - x).double().flatten(1).square().sum(dim=1)
                    shares = ((values > 0).double().flatten(1).mean(dim=1).sum() for values in (a, a_noisy))
                    totals[row, column] += torch.stack([ratios.sum(), *shares]).cpu()
    means = totals / count
    rows = [
        {
            "layer": column + 1,
            "block": type(block).__name__,
            "sigma": sigma,
            "snr_db": float(10 * torch.log10(means[row, column, 0])),
            "active": float(means[row, column, 1]),
            "active_noisy": float(means[row, column, 2]),
        }
        for row, sigma in enumerate(sigmas)
        for column, block in enumerate(blocks)
    ]
    return pd.DataFrame(rows)


def _pass(model: TemporalClassifier, blocks: Sequence[Block], images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(input of the convolution, activation) of each block."""
    inputs: dict[int, Tensor] = {}
    activations: dict[int, Tensor] = {}
    with _watching(blocks, inputs, activations):
        model(images, timesteps=0)
    return [(inputs[index], activations[index]) for index in range(len(blocks))]


@contextmanager
def _watching(blocks: Sequence[Block], inputs: dict[int, Tensor], activations: dict[int, Tensor]) -> Iterator[None]:
    """Within the context, passes leave what they compute in the two dictionaries."""

    def keep_input(index: int, arguments: tuple[Tensor, ...]) -> None:
        inputs[index] = arguments[0]

    def keep_output(index: int, output: Tensor) -> None:
        activations[index] = output

    handles = []
    for index, block in enumerate(blocks):
        handles.append(block.conv.register_forward_pre_hook(lambda _, given, index=index: keep_input(index, given)))
        spot: nn.Module = block if isinstance(block, HaHBlock) else block.get_submodule("activation")
        handles.append(spot.register_forward_hook(lambda _, __, output, index=index: keep_output(index, output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
