"""VGG16 and HaH networks against loops, and the locality of the HaH cost."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pcbench
from pcbench.errors import UserError
from pcbench.models.base import FeedforwardClassifier
from pcbench.models.hah import (
    ALPHAS,
    DivisiveNormalisation,
    FractionalThreshold,
    HaHBlock,
    HaHCost,
    hah_vgg16,
    read_alphas,
)
from pcbench.models.vgg import CIFAR10, ImplicitNormConv2d, VGGBlock, vgg16
from pcbench.models.zoo.hah import VARIANTS


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert count(hah_vgg16()) == 14_722_250
        assert count(vgg16()) == 14_724_042
        assert count(vgg16(convolutions="plain")) == 14_724_042


def test_first_six_blocks_are_hah_blocks() -> None:
    blocks = [type(block) for _, block in hah_vgg16(0.05).blocks()]
    assert blocks == [HaHBlock] * 6 + [VGGBlock] * 7


def test_implicit_norm_divides_by_each_filters_norm() -> None:
    layer = ImplicitNormConv2d(3, 4).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    plain = torch.nn.functional.conv2d(x, layer.weight, padding=1)
    for k in range(4):
        norm = math.sqrt(float((layer.weight[k].detach() ** 2).sum()))
        torch.testing.assert_close(layer(x)[:, k], plain[:, k] / (norm + 1e-6))


def test_implicit_norm_is_part_of_the_gradient() -> None:
    layer = ImplicitNormConv2d(2, 3).double()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None
    # the output does not depend on the scale of a filter, so the gradient is orthogonal to it
    along = (layer.weight * layer.weight.grad).flatten(1).sum(dim=1)
    assert along.abs().max() < 1e-4 * layer.weight.grad.norm()


def divisive_loop(a: np.ndarray, sigma: float) -> np.ndarray:
    out = np.zeros_like(a)
    images, channels, height, width = a.shape
    for n in range(images):
        local = np.zeros((height, width))
        for h in range(height):
            for w in range(width):
                window = np.abs(a[n, :, max(0, h - 1) : h + 2, max(0, w - 1) : w + 2])
                local[h, w] = sum(window[c].max() for c in range(channels)) / channels
        out[n] = a[n] / (sigma * local.max() + (1 - sigma) * local + 1e-7)
    return out


@given(seed=st.integers(0, 1000), sigma=st.sampled_from([0.0, 0.1, 1.0]))
@settings(max_examples=10, deadline=None)
def test_divisive_normalisation_is_the_loop(seed: int, sigma: float) -> None:
    a = np.maximum(np.random.default_rng(seed).normal(size=(2, 3, 4, 5)), 0)
    np.testing.assert_allclose(
        DivisiveNormalisation(sigma)(torch.tensor(a)).numpy(), divisive_loop(a, sigma), rtol=1e-12
    )


def threshold_loop(a: np.ndarray, keep: float) -> np.ndarray:
    out = np.zeros_like(a)
    for n in range(a.shape[0]):
        for c in range(a.shape[1]):
            values = sorted(a[n, c].ravel())
            k = int(np.floor(np.round((1 - keep) * len(values), 9)))
            for place, value in np.ndenumerate(a[n, c]):
                if k == 0 or value > values[k - 1]:
                    out[(n, c, *place)] = value
    return out


@given(seed=st.integers(0, 1000), keep=st.sampled_from([0.2, 0.5, 1.0]), rectified=st.booleans())
@settings(max_examples=15, deadline=None)
def test_fractional_threshold_is_the_loop(seed: int, keep: float, rectified: bool) -> None:
    a = np.random.default_rng(seed).normal(size=(2, 3, 4, 5))
    a = np.maximum(a, 0) if rectified else a
    np.testing.assert_array_equal(FractionalThreshold(keep)(torch.tensor(a)).numpy(), threshold_loop(a, keep))


def test_a_fifth_of_the_units_survives_and_carries_the_gradient() -> None:
    a = torch.rand(2, 4, 32, 32, requires_grad=True)
    kept = FractionalThreshold()(a)
    assert float((kept > 0).float().mean()) == pytest.approx(0.2, abs=1e-3)
    kept.sum().backward()
    torch.testing.assert_close(a.grad, (kept > 0).float())


def cost_loop(drive: np.ndarray, ratio: float, demote: float) -> float:
    images, channels, height, width = drive.shape
    k = math.ceil(ratio * channels)
    values = []
    for n in range(images):
        for h in range(height):
            for w in range(width):
                ranked = sorted(np.maximum(drive[n, :, h, w], 0), reverse=True)
                values.append(np.mean(ranked[:k]) - demote * np.mean(ranked[k:]))
    return float(np.mean(values))


@pytest.mark.parametrize("demote", [0.1, 1.0])
@pytest.mark.parametrize("channels", [4, 13, 64])
def test_cost_is_the_loop(channels: int, demote: float) -> None:
    drive = np.random.default_rng(channels).normal(size=(2, channels, 3, 2))
    found = HaHCost(demote=demote).of(torch.tensor(drive))
    assert float(found) == pytest.approx(cost_loop(drive, 0.1, demote), rel=1e-12)


@pytest.mark.parametrize(("channels", "k"), [(64, 7), (128, 13), (256, 26), (30, 3)])
def test_number_of_strong_channels(channels: int, k: int) -> None:
    drive = torch.zeros(1, channels, 1, 1)
    drive[0, 0] = 1.0
    assert float(HaHCost(demote=0.0).of(drive)) == pytest.approx(1 / k)


def two_pass_gradients(network: torch.nn.Module, x: Tensor, cost: HaHCost) -> list[Tensor]:
    """Each layer's cost on its own convolution of an input that is cut off from what lies below."""
    gradients = []
    blocks = [block for _, block in network.blocks() if isinstance(block, HaHBlock)]
    index = 0
    for layer in network.features:
        if isinstance(layer, HaHBlock):
            loss = -cost.alphas[index] * cost.of(layer.conv(x.detach()))
            gradients += torch.autograd.grad(loss, layer.conv.weight)
            index += 1
            if index == len(blocks):
                break
        x = layer(x)
    return gradients


def test_cost_gradients_are_local_and_equal_the_two_pass_form() -> None:
    torch.manual_seed(1)
    network = hah_vgg16(0.25).double().train()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    cost = HaHCost()
    _, drives = network.forward_with_drives(x, of=HaHBlock)
    cost.add_gradients(network, drives)
    expected = two_pass_gradients(network, x, cost)
    kernels = [block.conv.weight for _, block in network.blocks() if isinstance(block, HaHBlock)]
    for kernel, gradient in zip(kernels, expected, strict=True):
        torch.testing.assert_close(kernel.grad, gradient, rtol=1e-12, atol=1e-15)
    others = {id(kernel) for kernel in kernels}
    assert all(p.grad is None for p in network.parameters() if id(p) not in others)

    # the sum of all costs, differentiated at once, is another algorithm
    summed = torch.autograd.grad(
        -sum(alpha * cost.of(drive) for alpha, drive in zip(ALPHAS, drives, strict=True)), kernels
    )
    assert (summed[0] - kernels[0].grad).norm() > 0.01 * kernels[0].grad.norm()
    torch.testing.assert_close(summed[-1], kernels[-1].grad)  # nothing lies above the last


def test_cross_entropy_adds_to_the_cost_gradients() -> None:
    network = hah_vgg16(0.05).double()
    x, labels = torch.randn(2, 3, 32, 32, dtype=torch.float64), torch.tensor([0, 1])
    logits, drives = network.forward_with_drives(x, of=HaHBlock)
    HaHCost().add_gradients(network, drives)
    kernel = next(network.blocks())[1].conv.weight
    own = kernel.grad.clone()
    torch.nn.functional.cross_entropy(logits, labels).backward()
    together = kernel.grad.clone()
    (alone,) = torch.autograd.grad(torch.nn.functional.cross_entropy(network(x), labels), kernel)
    torch.testing.assert_close(together, own + alone)


def test_pass_with_drives_is_the_ordinary_pass() -> None:
    network = hah_vgg16(0.1).eval()
    x = torch.randn(2, 3, 32, 32)
    logits, drives = network.forward_with_drives(x, of=HaHBlock)
    torch.testing.assert_close(logits, network(x), rtol=0, atol=0)
    assert [drive.shape[1] for drive in drives] == [6, 6, 13, 13, 26, 26]


@pytest.mark.parametrize("name", ["vgg16-cifar", "vgg16-cifar-plain", *VARIANTS])
def test_registered_networks_answer_and_have_no_dynamics(name: str) -> None:
    model = pcbench.load_model(f"{name}?width=0.05", "random")
    assert isinstance(model, FeedforwardClassifier)
    assert not model.has_dynamics
    assert model.preprocessing == CIFAR10
    answers = model(torch.rand(2, 3, 32, 32), timesteps=3)
    assert answers.shape == (4, 2, 10)
    torch.testing.assert_close(answers[0], answers[3], rtol=0, atol=0)


def test_ablations_leave_out_what_they_say() -> None:
    def blocks(name: str) -> list[HaHBlock]:
        network = pcbench.load_model(f"{name}?width=0.05", "random").network
        return [block for _, block in network.blocks() if isinstance(block, HaHBlock)]

    assert all(isinstance(b.normalisation, torch.nn.Identity) for b in blocks("hah-vgg16-no-normalisation"))
    assert all(isinstance(b.threshold, torch.nn.Identity) for b in blocks("hah-vgg16-no-threshold"))
    assert all(isinstance(b.threshold, FractionalThreshold) for b in blocks("hah-vgg16-no-cost"))
    assert set(VARIANTS["hah-vgg16-no-cost"].cost.alphas) == {0.0}
    assert VARIANTS["hah-vgg16-lambda-1"].cost.demote == 1.0
    assert VARIANTS["hah-vgg16"].cost == HaHCost(0.1, 0.1, ALPHAS)


def test_initial_parameters_depend_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    first, second, third = (pcbench.load_model("vgg16-cifar?width=0.05", "random", seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(first(x), second(x))
    assert not torch.equal(first(x), third(x))


def test_too_small_images_are_refused() -> None:
    with pytest.raises(UserError, match="31 x 40 are too small for the 5 pools"):
        vgg16(0.05)(torch.zeros(1, 3, 31, 40))


@pytest.mark.parametrize("name", ["vgg16-cifar?width=0", "vgg16-cifar?width=nan", "vgg16-cifar?width=wide"])
def test_bad_width_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="width is"):
        pcbench.load_model(name, "random")


def test_alphas_are_read_and_checked() -> None:
    assert read_alphas("1,2,3,4,5,6") == (1, 2, 3, 4, 5, 6)
    for text in ("1,2", "a,b,c,d,e,f", "1,2,3,4,5,nan"):
        with pytest.raises(UserError, match="6 numbers"):
            read_alphas(text)
