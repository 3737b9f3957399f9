"""The unroll of every registered network on CUDA, without a GPU: torch's fake tensors refuse mixed devices and dtypes.

Nothing is computed, so this is about where tensors are and how they are cast, not about values. What makes a device
wait is refused too: a fake tensor has no value to look at.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pcbench.models.base import TemporalClassifier
from pcbench.models.resolve import load_model
from pcbench.models.spec import MODELS

TIMESTEPS = 2
CONTROLS = ["averaging:vgg16-cifar", "diffusion:vgg16-cifar"]
# Operations that wait for a device, whatever is asked of their result.
WAITING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select", "aten::unique")
# From torch's list of operations that are not deterministic on CUDA, those that a network could run into.
RANDOM_ORDER = ("bilinear2d_backward", "bicubic2d_backward", "index_add", "scatter_add", "put_", "kthvalue", "histc")


class Watch(TorchDispatchMode):
    """Names of operations, and of those that move something between a device and the CPU, by the way they go."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.moves: list[tuple[str, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.names.append(func.name())
        if func.name().startswith("aten::_to_copy"):
            waits = not (kwargs or {}).get("non_blocking", False)
            way = args[0].device.type, out.device.type
            if way[0] != way[1] and waits:
                self.moves.append(way)
        elif func.name().startswith("aten::copy_"):
            devices = [leaf.device.type for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            if len(set(devices)) > 1:
                self.moves.append((devices[1], devices[0]))
        return out

    def waits(self) -> list[str]:
        """What would have waited."""
        return [name for name in self.names if name.startswith(WAITING)] + [f"{a} to {b}" for a, b in self.moves]


@contextmanager
def fake_cuda(model: TemporalClassifier) -> Iterator[TemporalClassifier]:
    """Within, the model as if it were on CUDA."""
    mode = FakeTensorMode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "User provided device_type of 'cuda', but CUDA is not available")
        with FakeCopyMode(mode):
            there = copy.deepcopy(model)
        with mode:
            for module in there.modules():
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        module._parameters[name] = torch.nn.Parameter(parameter.to("cuda"), requires_grad=False)
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = buffer.to("cuda")
            yield there


def pictures(model: TemporalClassifier, count: int = 2) -> Tensor:
    return torch.empty(count, *model.input_size, device="cuda")


# The others differ from one of these in their size, or are of the same cells on another graph.
QUICK = ["pefficientnet-lite0", "pvgg16-cifar", "vgg16-cifar", "hah-vgg16", "convrnn-rgc-median", "cornet-rt-cifar"]
QUICK += [name for name, _ in MODELS if name.startswith("convrnn") and name.endswith("shallow-cifar")]
NAMES = [*(name for name, _ in MODELS), *CONTROLS]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK + CONTROLS else [pytest.mark.slow]) for n in NAMES]
)
def test_every_network_unrolls_on_cuda(name: str) -> None:
    with fake_cuda(load_model(name, "random")) as model:
        for low in (False, True):
            images = pictures(model)
            with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=low), Watch() as watch:
                logits = model(images, TIMESTEPS)
            assert logits.device.type == "cuda"
            assert logits.shape == (TIMESTEPS + 1, 2, model.num_classes)
            assert not [name for name in watch.names if any(part in name for part in RANDOM_ORDER)]
            waits = watch.waits()
            with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=low), Watch() as watch:
                model(images, TIMESTEPS + 1)
            assert watch.waits() == waits, "a timestep waits for the device"


@pytest.mark.parametrize("name", ["pvgg16-cifar", "pefficientnet-lite0", "convrnn-rgc-shallow-cifar", "hah-vgg16"])
def test_gradients_of_images_are_taken_in_a_fixed_order(name: str) -> None:
    """On the CPU: autograd asks CUDA for its devices, fake tensors or not. The operations are the same."""
    model = load_model(name, "random")
    model.any_size = True
    size = min(64, *model.input_size[1:])
    images = torch.rand(1, 3, size, size).requires_grad_()
    for gradient in model.gradients:
        with model.differentiated(gradient), Watch() as watch:
            torch.autograd.grad(model.at(TIMESTEPS)(images).sum(), images)
        assert not [name for name in watch.names if any(part in name for part in RANDOM_ORDER)]


def test_the_watch_sees_what_waits() -> None:
    with FakeTensorMode(), Watch() as watch:
        torch.ones(3).to("cuda").to("cpu")
        torch.ones(3).to("cuda", non_blocking=True)
    assert watch.waits() == ["cpu to cuda", "cuda to cpu"]
    with Watch() as watch:
        torch.ones(3).sum().item()
        torch.ones(3).nonzero()
    assert [name.partition(".")[0] for name in watch.waits()] == ["aten::_local_scalar_dense", "aten::nonzero"]


def test_mixed_devices_are_refused() -> None:
    with fake_cuda(load_model("vgg16-cifar?width=0.1", "random")) as model, pytest.raises(RuntimeError, match="cuda"):
        model(torch.empty(2, 3, 32, 32))
