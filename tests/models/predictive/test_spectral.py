"""Products of spectra against the direct transposed convolution, its adjoint and autograd."""

import copy
import gc
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pcbench
from pcbench.errors import UserError
from pcbench.models.predictive import routes, spectral, spectrum
from pcbench.models.predictive.network import PredictiveNet
from pcbench.models.predictive.pullback import prepared
from pcbench.models.predictive.routes import choose_routes, use_routes
from pcbench.models.predictive.spectral import DIRECT, Route, kernels
from pcbench.models.predictive.spectrum import Engine, Tiles, best_engine, taps_of

ENGINES = sorted({"batched", best_engine(torch.float32, torch.device("cpu"))})


def layer(*shape: Any, dtype: torch.dtype = torch.float64) -> nn.ConvTranspose2d:
    torch.manual_seed(0)
    return nn.ConvTranspose2d(*shape).to(dtype).requires_grad_(False)


def both_ways(size: int, rows: int = 6, engine: Engine = "batched") -> Route:
    tiles = Tiles(size, rows, engine)
    return Route(tiles, tiles)


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    limit = kernels.limit
    yield
    kernels.limit = limit
    gc.collect()


@pytest.mark.parametrize(
    ("shape", "size", "tile"),
    [
        ((3, 2, 14, 2, 6), (9, 13), 9),  # several tiles, the last one cut short
        ((3, 2, 14, 2, 6), (5, 5), 20),  # one tile, larger than the image
        ((3, 2, 10, 2, 4), (8, 8), 12),
        ((3, 2, 5, 1, 2), (7, 9), 5),
        ((3, 2, 7, 3, 3, 2), (4, 6), 6),  # output padding; phases with fewer taps than others
        ((2, 3, 4, 4, 0), (3, 5), 2),  # phases of one tap
        ((2, 3, (14, 10), 2, (6, 4)), (6, 7), 8),
    ],
)
def test_values_and_adjoint_are_those_of_the_layer(shape: tuple[Any, ...], size: tuple[int, int], tile: int) -> None:
    direct = layer(*shape)
    x = torch.randn(3, direct.in_channels, *size, dtype=torch.float64, requires_grad=True)
    expected: Tensor = direct(x)
    v = torch.randn_like(expected)
    route = both_ways(tile)
    found = spectral.forward(direct, x, route)
    assert "Spectral" in str(found.grad_fn.next_functions[0][0])  # the bias is added to it
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(spectral.pullback(direct, v, route), torch.autograd.grad(expected, x, v)[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_float32_is_as_near_to_float64_as_the_layer_itself(engine: Engine) -> None:
    exact = layer(32, 16, 14, 2, 6)
    rounded = copy.deepcopy(exact).float()
    x = torch.rand(2, 32, 14, 14, dtype=torch.float64)
    expected = exact(x)
    error = float((spectral.forward(rounded, x.float(), both_ways(13, 16, engine)) - expected).norm() / expected.norm())
    assert error < 2e-6


def test_first_and_second_derivatives() -> None:
    direct = layer(2, 1, 6, 2, 2)
    predictor = nn.Sequential(direct, nn.ReLU())
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)

    def cubic(x: Tensor) -> Tensor:
        p, pullback = prepared(predictor, both_ways(5))(x)
        return pullback(p**2).square().sum()

    assert torch.autograd.gradcheck(cubic, x)
    assert torch.autograd.gradgradcheck(cubic, x)
    torch.testing.assert_close(torch.func.grad(cubic)(x.detach()), torch.autograd.grad(cubic(x), x)[0])


def test_a_weight_in_training_takes_the_direct_path_and_gets_its_gradient() -> None:
    direct = layer(2, 1, 6, 2, 2).requires_grad_(True)
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *_: spectral.forward(direct, x, both_ways(5)), tuple(direct.parameters()))
    with torch.no_grad():
        spectral.forward(direct, x, both_ways(5))
    assert kernels.nbytes == spectral.spectrum_bytes(direct, 5)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_image_does_not_depend_on_its_batch(engine: Engine) -> None:
    direct = layer(16, 8, 10, 2, 4, dtype=torch.float32)
    x = torch.randn(5, 16, 12, 12)
    whole = spectral.forward(direct, x, both_ways(9, 10, engine))
    parts = [spectral.forward(direct, part, both_ways(9, 10, engine)) for part in x.split([1, 3, 1])]
    assert torch.equal(whole, torch.cat(parts))


def _halve(direct: nn.ConvTranspose2d) -> None:
    with torch.no_grad():
        direct.weight.mul_(0.5)


def _halve_unseen(direct: nn.ConvTranspose2d) -> None:
    direct.weight.data.mul_(0.5)


def _replace(direct: nn.ConvTranspose2d) -> None:
    direct.weight = nn.Parameter(direct.weight * 0.5, requires_grad=False)


@pytest.mark.parametrize("change", [_halve, _halve_unseen, _replace])
def test_a_changed_weight_is_what_counts(change: Callable[[nn.ConvTranspose2d], None]) -> None:
    direct = layer(2, 3, 6, 2, 2)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    spectral.forward(direct, x, both_ways(5))
    change(direct)
    torch.testing.assert_close(spectral.forward(direct, x, both_ways(5)), direct(x))


def test_kernels_stay_within_their_limit_and_go_with_their_layer() -> None:
    layers = [layer(2, 3, 6, 2, 2) for _ in range(3)]
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    one = spectral.spectrum_bytes(layers[0], 5)
    kernels.limit = 2 * one
    for _ in range(2):
        for each in layers:
            torch.testing.assert_close(spectral.forward(each, x, both_ways(5)), each(x))
            assert kernels.nbytes <= 2 * one
    del each, layers
    gc.collect()
    assert kernels.nbytes == 0
    kernels.limit = one - 1
    direct = layer(2, 3, 6, 2, 2)
    torch.testing.assert_close(spectral.forward(direct, x, both_ways(5)), direct(x))
    assert kernels.nbytes == 0


def test_autocast_and_other_types_take_the_direct_path() -> None:
    direct = layer(4, 3, 6, 2, 2, dtype=torch.float32)
    x = torch.randn(1, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(spectral.forward(direct, x, both_ways(5)), direct(x))
    half = direct.to(torch.bfloat16)
    assert torch.equal(spectral.forward(half, x.bfloat16(), both_ways(5)), half(x.bfloat16()))


class Scaled(nn.ConvTranspose2d):
    """A layer that computes something else."""


@pytest.mark.parametrize(
    "other",
    [
        nn.ConvTranspose2d(4, 4, 6, 2, 2, groups=2),
        nn.ConvTranspose2d(4, 4, 6, 2, 1),  # larger than twice its input
        nn.ConvTranspose2d(4, 4, 3, 2, 2, dilation=2),
        nn.ConvTranspose2d(4, 4, 6, (2, 1), 2),
        nn.Conv2d(4, 4, 6),
        Scaled(4, 4, 6, 2, 2),
    ],
)
def test_other_layers_are_not_taken_for_one(other: nn.Module) -> None:
    assert taps_of(other) is None


class Wide(nn.Module):
    """Wide enough for spectra to pay."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(x)).mean((2, 3)))


def network() -> PredictiveNet:
    """With a predictor of stride 2 and a large kernel."""
    torch.manual_seed(0)
    predictor = "Sequential(ConvTranspose2d(32, 16, kernel_size=14, stride=2, padding=6), ReLU())"
    config = {
        "input_size": [3, 24, 24],
        "gradient_scaling": True,
        "pcoders": [{"module": "one"}, {"module": "two", "predictor": predictor}],
    }
    return pcbench.predify(Wide().eval(), config).requires_grad_(False)


def test_the_network_answers_the_same_by_either_route() -> None:
    net = network()
    x = torch.randn(2, 3, 24, 24)
    direct = net(x, 5)
    record = choose_routes(net, 8, "fft")
    assert [entry["direction"] for entry in record["choices"] if entry["tiles"]] == ["forward", "pullback"]
    found = net(x, 5)
    assert kernels.nbytes == sum(entry["nbytes"] for entry in record["choices"])
    for t in range(6):
        assert float((found[t] - direct[t]).norm() / direct[t].norm()) < 1e-6
    image = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(image, 3)[-1].logsumexp(1).sum(), image)
    use_routes(net, choose_routes(net, 2, "direct"))
    (expected,) = torch.autograd.grad(net(image, 3)[-1].logsumexp(1).sum(), image)
    assert float((gradient - expected).norm() / expected.norm()) < 1e-5


def test_a_choice_travels_as_a_record() -> None:
    net, other = network(), network()
    record = choose_routes(net, 8, "measured")
    assert all(entry["seconds"] > 0 for entry in record["choices"] if entry["seconds"] is not None)
    use_routes(other, json.loads(json.dumps(record)))
    assert [pcoder.route for pcoder in other.pcoders] == [pcoder.route for pcoder in net.pcoders]
    assert [pcoder.route for pcoder in copy.deepcopy(net).pcoders] == [pcoder.route for pcoder in net.pcoders]
    choose_routes(net, 8, "direct")
    assert {pcoder.route for pcoder in net.pcoders} == {DIRECT}


def test_a_choice_keeps_to_the_memory_that_there_is() -> None:
    net = network()
    kernels.limit = 0
    assert all(entry["tiles"] is None for entry in choose_routes(net, 8, "fft")["choices"])


def test_a_choice_that_cannot_be_is_refused() -> None:
    net = network()
    with pytest.raises(UserError, match="did you mean"):
        choose_routes(net, 2, "mesured")
    with pytest.raises(UserError, match="at least one image"):
        choose_routes(net, 0, "fft")
    record = choose_routes(net, 2, "fft")
    record["choices"][0]["pcoder"] = 7
    with pytest.raises(UserError, match="PCoder 7"):
        use_routes(net, record)


@pytest.mark.parametrize("lacks", ["reorder", "product", "numbers"])
def test_an_engine_is_tried_before_it_is_used(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    record = choose_routes(net, 8, "fft")
    if lacks == "reorder":
        monkeypatch.delattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", raising=False)
    else:
        monkeypatch.setattr(spectrum._Packed, "__call__", {"product": _missing, "numbers": _zeros}[lacks])
    monkeypatch.setattr(spectrum, "packed_fault", cache(spectrum.packed_fault.__wrapped__))
    monkeypatch.setattr(routes, "packed_fault", spectrum.packed_fault)
    here = choose_routes(net, 8, "fft")
    assert {entry["tiles"]["engine"] for entry in here["choices"] if entry["tiles"]} == {"batched"}
    assert "fails" in here["fallback"]
    if record["fallback"] is None:
        with pytest.raises(UserError, match="another PyTorch"):
            use_routes(net, record)


def _missing(product: object, x: Tensor) -> Tensor:
    raise RuntimeError("no such operator")


def _zeros(product: object, x: Tensor) -> Tensor:
    return torch.zeros(4, 5, 6)


def test_a_relu_in_place_behind_a_layer_without_bias() -> None:
    direct = nn.ConvTranspose2d(2, 3, 6, 2, 2, bias=False).double()
    predictor = nn.Sequential(direct, nn.ReLU(inplace=True)).requires_grad_(False)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    p, pullback = prepared(predictor, both_ways(5))(x)
    expected = predictor(x.clone())
    v = torch.randn_like(expected)
    torch.testing.assert_close(p, expected)
    torch.testing.assert_close(pullback(v), torch.autograd.grad(expected, x, v, retain_graph=True)[0])
    torch.testing.assert_close(torch.autograd.grad(p, x, v)[0], torch.autograd.grad(expected, x, v)[0])
