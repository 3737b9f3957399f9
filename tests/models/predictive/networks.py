"""Small networks for tests, each with something that makes cutting it hard."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Chain(nn.Module):
    """Convolutions in a row, with in-place activations; counts the calls of its first layer."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.BatchNorm2d(8),
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class Residual(nn.Module):
    """Skips past PCoders, an addition in place into a PCoder's output, and parallel branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.right = nn.Conv2d(4, 5, 1, stride=2)
        self.head = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.stem(x))
        out = self.bn(self.conv(first))
        out += first
        out = F.relu(out, inplace=True)
        return self.head((self.left(out) + torch.sigmoid(self.right(first))).mean((2, 3)))


class Overwriting(nn.Module):
    """Overwrites its own input, and the output of a convolution, in functions that no module shows."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(0.5)
        y = self.one(x)
        y.relu_()
        return self.head(self.two(y).mul_(2.0).mean((2, 3)))


class Untraceable(nn.Module):
    """Decides by the values that it sees, which torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(self.one(x))
        if float(y.sum()) < 0:
            y = -y
        return self.head(F.relu(self.two(y)).mean((2, 3)))


class Aliasing(nn.Module):
    """Adds in place into a part of a tensor: a trace would add into a copy of the part."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.two = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        part = y[:, :2]
        part += 1.0
        return self.head(self.two(y).mean((2, 3)))


class Twice(nn.Module):
    """Calls one module two times."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.one(self.one(x)).mean((2, 3)))


def randomise(network: nn.Module) -> nn.Module:
    """Batch normalisation away from the identity; eval mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def calls(module: nn.Module) -> list[int]:
    """A list that grows by one number, the batch size, with each call of a module."""
    seen: list[int] = []
    module.register_forward_hook(lambda m, inputs, out: seen.append(len(inputs[0])))
    return seen
