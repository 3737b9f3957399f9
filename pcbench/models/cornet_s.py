"""CORnet-S: four areas, three of which repeat themselves, with batch normalisations of their own for every repeat.

Kubilius et al. 2019, "Brain-Like Object Recognition with High-Performing Shallow Recurrent ANNs". Written from its
description; areas V2, V4 and IT are bottlenecks that run 2, 4 and 2 times, each on its own output.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pcbench.models.base import Preprocessing, TemporalClassifier

REPEATS = (2, 4, 2)  # of V2, V4, IT
CHANNELS = (64, 128, 256, 512)  # of V1, V2, V4, IT
_EXPANSION = 4


class Area(nn.Module):
    """An area that repeats itself: a bottleneck of factor 4 with a skip connection; half the size of what it is given.

    All passes share the convolutions; each has batch normalisations of its own. The first pass strides; there the
    skip is a convolution of its own.

    Args:
        before: channels of its input.
        channels: of its output.
        repeats: passes that it has normalisations for.
    """

    def __init__(self, before: int, channels: int, repeats: int) -> None:
        super().__init__()
        inner = _EXPANSION * channels
        self.repeats = repeats
        self.entry = nn.Conv2d(before, channels, 1, bias=False)
        self.skip = nn.Conv2d(channels, channels, 1, stride=2, bias=False)
        self.skip_norm = nn.BatchNorm2d(channels)
        self.expand = nn.Conv2d(channels, inner, 1, bias=False)
        self.spatial = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.project = nn.Conv2d(inner, channels, 1, bias=False)
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(width) for width in (inner, inner, channels)) for _ in range(repeats)
        )

    def first(self, x: Tensor) -> Tensor:
        """The first pass, on the output of the area before: (B, before, H, W) -> (B, channels, H / 2, W / 2)."""
        x = self.entry(x)
        return self._pass(x, self.skip_norm(self.skip(x)), 0, stride=2)

    def again(self, state: Tensor, index: int) -> Tensor:
        """Pass `index` >= 1, on the output of the pass before."""
        return self._pass(state, state, index, stride=1)

    def _pass(self, x: Tensor, skip: Tensor, index: int, stride: int) -> Tensor:
        norms = self.norms[index]
        assert isinstance(norms, nn.ModuleList)
        x = norms[0](self.expand(x)).relu()
        kernel = self.spatial.weight
        x = norms[1](nn.functional.conv2d(x, kernel, stride=stride, padding=1)).relu()
        out: Tensor = (norms[2](self.project(x)) + skip).relu()
        return out


class CORnetS(TemporalClassifier):
    """CORnet-S over time: at t, each area makes t + 1 passes, or as many as it has.

    t = 0 is the feedforward pass, and t = 3 the published network, in which V2, V4 and IT run 2, 4 and 2 times; after
    that nothing changes. The published network runs area after area (not as a biological unroll would), so an area's
    later passes reach the next area before its first.

    Args:
        num_classes, preprocessing: see TemporalClassifier.
        repeats: of the three areas that repeat themselves.
    """

    def __init__(self, num_classes: int, preprocessing: Preprocessing, repeats: Sequence[int] = REPEATS) -> None:
        super().__init__(num_classes, preprocessing, timesteps=max(repeats) - 1)
        first = CHANNELS[0]
        self.v1 = nn.Sequential(
            nn.Conv2d(3, first, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(first), nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(first, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU(),
        )  # fmt: skip
        widths = zip(CHANNELS[:-1], CHANNELS[1:], repeats, strict=True)
        self.areas = nn.ModuleList(Area(before, channels, count) for before, channels, count in widths)
        self.readout = nn.Linear(CHANNELS[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        """See TemporalClassifier."""
        seen = self.v1(x)
        last = max(area.repeats for area in self._areas()) - 1
        answers: list[Tensor] = []
        for t in range(timesteps + 1):
            if t > last:
                answers.append(answers[-1])
            elif self.checkpointing and torch.is_grad_enabled():
                answers.append(checkpoint(self._answer, seen, t, use_reentrant=False))
            else:
                answers.append(self._answer(seen, t))
        return torch.stack(answers)

    def _answer(self, seen: Tensor, t: int) -> Tensor:
        state = seen
        for area in self._areas():
            state = area.first(state)
            for index in range(1, min(t + 1, area.repeats)):
                state = area.again(state, index)
        logits: Tensor = self.readout(state.mean(dim=(2, 3)))
        return logits

    def _areas(self) -> list[Area]:
        return [area for area in self.areas if isinstance(area, Area)]
