"""Train and eval mode, module by module: `train(True)` would wake normalisations that a training had frozen."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

Modes = list[tuple[nn.Module, bool]]


def modes_of(module: nn.Module) -> Modes:
    """Which of the modules inside are in train mode."""
    return [(inner, inner.training) for inner in module.modules()]


def restore(modes: Modes) -> None:
    """Put each module back into its mode."""
    for module, training in modes:
        module.training = training


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within, the module is in eval mode; afterwards each of its modules is in the mode that it was in."""
    before = modes_of(module)
    module.eval()
    try:
        yield
    finally:
        restore(before)
