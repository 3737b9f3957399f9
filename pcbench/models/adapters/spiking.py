"""Spiking networks whose answer is an average over time: of snnTorch, of SpikingJelly, or of one's own."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pcbench.errors import UserError

_RESETS = ("reset_mem", "reset_hidden", "reset")  # snnTorch's neurons; older ones; SpikingJelly's


def reset_states(network: nn.Module) -> None:
    """Forget what the neurons of a network remember: snnTorch's (`reset_mem`) and SpikingJelly's (`reset`).

    Raises:
        UserError: no module of the network can forget, so answers would depend on the images before.
    """
    found = False
    for module in network.modules():
        method = next((name for name in _RESETS if callable(getattr(module, name, None))), None)
        if method is not None:
            getattr(module, method)()
            found = True
    if not found:
        known = ", ".join(_RESETS)
        raise UserError(f"no module of {type(network).__name__} has a way to forget its state ({known}); give `reset`")


class RateCoded(nn.Module):
    """A spiking network, shown the same images at every step; its answer at t is the mean of its outputs until then.

    Its step 0 is the first with the image: t = 0 is the answer after one step, which is no feedforward pass of a
    network without spikes, and with few steps an answer of few spikes.

    Args:
        network: one step: images (B, 3, H, W) -> outputs (B, classes), spikes or potentials; or a tuple with those
            first, as snnTorch's last layer gives (spikes, potentials).
        reset: brings it to its initial state; called before the first step.

    Example::

        @pcbench.network(size=32, classes="cifar10", normalises=True, timesteps=16)
        def net():
            return RateCoded(my_spiking_network())
    """

    def __init__(self, network: nn.Module, reset: Callable[[nn.Module], None] = reset_states) -> None:
        super().__init__()
        self.network = network
        self._reset = reset

    def forward(self, images: Tensor, timesteps: int) -> Tensor:
        """(B, 3, H, W) -> (timesteps + 1, B, classes)."""
        self._reset(self.network)
        try:
            outputs = [self._step(images) for _ in range(timesteps + 1)]
        finally:
            self._reset(self.network)  # neither their graph nor their size outlives the call
        steps = torch.arange(1, timesteps + 2, device=images.device).view(-1, 1, 1)
        return torch.stack(outputs).float().cumsum(0) / steps

    def _step(self, images: Tensor) -> Tensor:
        found = self.network(images)
        out: Tensor = found[0] if isinstance(found, tuple) else found
        return out
