"""What an attack climbs: losses on logits, larger for better attacks, row by row.

In all of them `labels` are the classes to get away from and `targets` those to reach, -1 where there is none. A row
with a target climbs the targeted form of the loss.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (B, classes), labels (B,), targets (B,)) -> (B,)."""


def _of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes.clamp_min(0).unsqueeze(1)).squeeze(1)


def _largest_but(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.scatter(1, classes.clamp_min(0).unsqueeze(1), -torch.inf).amax(1)


def gap(logits: Tensor, labels: Tensor, goals: Tensor) -> Tensor:
    """How far an attack is beyond its goal, in logits: positive when it reached it, whatever loss it climbs.

    Args:
        logits: (B, classes).
        labels: (B,).
        goals: (B,) the class that must be answered; -1 where any class but the label will do.
    """
    away = _largest_but(logits, labels) - _of(logits, labels)
    if not bool((goals >= 0).any()):
        return away
    return torch.where(goals >= 0, _of(logits, goals) - _largest_but(logits, goals), away)


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """-log p_y; with a target log p_t."""
    logs = logits.log_softmax(1)
    return torch.where(targets >= 0, _of(logs, targets), -_of(logs, labels))


def margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """max_{i != y} z_i - z_y; with a target z_t - z_y."""
    rivals = torch.where(targets >= 0, _of(logits, targets), _largest_but(logits, labels))
    return rivals - _of(logits, labels)


def dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein, 2020): the margin over z_(1) - z_(3), invariant to shift and scale.

    With a target -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2); z_(k) is the k-th largest logit.
    """
    count = min(4, logits.shape[1])
    top = logits.topk(count, dim=1).values
    third, fourth = top[:, min(2, count - 1)], top[:, count - 1]
    scale = torch.where(targets >= 0, top[:, 0] - (third + fourth) / 2, top[:, 0] - third)
    return margin(logits, labels, targets) / (scale + 1e-12)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
CLASSES = {"ce": 2, "margin": 2, "dlr": 3}  # the fewest that a loss is defined for; dlr with targets needs 4
