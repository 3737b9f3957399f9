"""What an attack must leave as it found it: the network's mode, parameters and gradients, and the random state."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from pcbench.models.vgg import ImplicitNormConv2d


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within the context the model is in eval mode and its parameters take no gradients; afterwards as before.

    What follows from parameters alone is computed once. Gradients with respect to images can be taken in it, also when
    the caller is in inference mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    wants = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in wants:
            parameter.requires_grad_(False)
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            for module in model.modules():
                if isinstance(module, ImplicitNormConv2d):
                    stack.enter_context(module.held())
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, want in wants:
            parameter.requires_grad_(want)


@contextmanager
def seeded(key: int, device: torch.device) -> Iterator[None]:
    """Within the context the global random states (Python, NumPy, torch) follow from the key; afterwards as before.

    The attack libraries draw from them and cannot be given generators.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # the libraries use this one
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            random.seed(key)
            np.random.seed(key % 2**32)  # noqa: NPY002
            torch.manual_seed(key)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
