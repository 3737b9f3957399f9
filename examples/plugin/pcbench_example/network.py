"""A network with dynamics: it looks at one colour after another, and is surer of its answer with every timestep."""

import torch
from torch import Tensor, nn

import pcbench
from pcbench_example.images import PALETTE


class Colours(nn.Module):
    """Logits are minus the squared distance of the image's mean colour from each colour of the palette."""

    def __init__(self) -> None:
        super().__init__()
        self.palette = nn.Parameter(torch.tensor(list(PALETTE.values())) / 255)

    def forward(self, images: Tensor, timesteps: int) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (timesteps + 1, B, classes): the one method that a network with dynamics needs."""
        distance = (images.mean((2, 3))[:, None] - self.palette).square().sum(-1)
        return torch.stack([-distance * (1 + t) for t in range(timesteps + 1)])


@pcbench.network(size=32, classes="example-colours", normalises=True, timesteps=3)
def net() -> nn.Module:
    """What `--model example-net` runs."""
    return Colours()
