"""Every cell against a literal NumPy implementation of its equations, over five steps."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pcbench.errors import UserError
from pcbench.models.convrnn.cells import CELLS, Cell, CellShape, cell_class
from pcbench.models.convrnn.layers import SameConv2d

Array = np.ndarray
B, H, W, STEPS = 2, 5, 4, 5


def conv(x: Array, layer: torch.nn.Conv2d) -> Array:
    """TensorFlow's SAME convolution of stride 1, tap by tap."""
    weight = layer.weight.detach().numpy()
    kernel, groups = weight.shape[2], layer.groups
    before = (kernel - 1) // 2
    padded = np.pad(x, ((0, 0), (0, 0), (before, kernel - 1 - before), (before, kernel - 1 - before)))
    out = np.zeros((x.shape[0], weight.shape[0], *x.shape[2:]))
    for o in range(weight.shape[0]):
        for i in range(weight.shape[1]):
            channel = i if groups == 1 else o
            for r in range(kernel):
                for s in range(kernel):
                    window = padded[:, channel, r : r + x.shape[2], s : s + x.shape[3]]
                    out[:, o] += weight[o, i, r, s] * window
    if layer.bias is not None:
        out += layer.bias.detach().numpy()[:, None, None]
    return out


def separable(x: Array, layer: torch.nn.Sequential) -> Array:
    return conv(conv(x, layer[0]), layer[1])


def norm(x: Array, layer: torch.nn.GroupNorm) -> Array:
    grouped = x.reshape(x.shape[0], layer.num_groups, -1)
    mean, variance = grouped.mean(axis=2, keepdims=True), grouped.var(axis=2, keepdims=True)
    normal = ((grouped - mean) / np.sqrt(variance + layer.eps)).reshape(x.shape)
    return normal * layer.weight.detach().numpy()[:, None, None] + layer.bias.detach().numpy()[:, None, None]


def sig(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


def cat(*parts: Array) -> Array:
    return np.concatenate(parts, axis=1)


# Each: (cell, x, r, feedback, states) -> (output, states)


def feedforward(cell, x, r, f, s):
    return x, []


def time_decay(cell, x, r, f, s):
    h = x + float(cell.tau.detach()) * s[0]
    return h, [h]


def simple_rnn(cell, x, r, f, s):
    total = conv(x, cell.from_x) + conv(s[0], cell.from_h)
    h = elu(norm(total, cell.norm) if isinstance(cell.norm, torch.nn.GroupNorm) else total)
    return h, [h]


def gru(cell, x, r, f, s):
    reset, update = np.split(conv(cat(x, s[0]), cell.gates), 2, axis=1)
    reset, update = sig(reset + 1), sig(update)
    c = np.tanh(conv(cat(x, reset * s[0]), cell.candidate))
    h = update * s[0] + (1 - update) * c
    return h, [h]


def lstm(cell, x, r, f, s):
    c, h = s
    i, j, fg, o = np.split(conv(cat(x, h), cell.gates), 4, axis=1)
    if isinstance(cell.norms[0], torch.nn.GroupNorm):
        i, j, fg, o = (norm(part, layer) for part, layer in zip((i, j, fg, o), cell.norms, strict=False))
    if cell.peepholes is not None:
        wi, wf, wo = cell.peepholes.detach().numpy()
        i, fg, o = i + wi * c, fg + wf * c, o + wo * c
    c = c * sig(fg + cell.forget_bias) + sig(i) * np.tanh(j)
    if isinstance(cell.norms[4], torch.nn.GroupNorm):
        c = norm(c, cell.norms[4])
    h = np.tanh(c) * sig(o)
    return h, [c, h]


def ugrnn(cell, x, r, f, s):
    g, c = np.split(conv(cat(x, s[0]), cell.gates), 2, axis=1)
    g = sig(g + 1)
    h = g * s[0] + (1 - g) * np.tanh(c)
    return h, [h]


def intersection(cell, x, r, f, s):
    gh, new, gy, y = np.split(conv(cat(x, s[0]), cell.gates), 4, axis=1)
    gh, gy = sig(gh + 1), sig(gy + 1)
    h = gh * s[0] + (1 - gh) * np.tanh(new)
    return gy * x + (1 - gy) * np.maximum(y, 0), [h]


def rgc(cell, x, r, f, s):
    c, h = s
    c_new = elu((1 - sig(conv(c, cell.cc))) * c + (1 - sig(conv(h, cell.hc))) * conv(x, cell.xc))
    h_new = elu((1 - sig(conv(h, cell.hh))) * h + (1 - sig(conv(c, cell.ch) + conv(r, cell.rh))) * x)
    return h_new, [c_new, h_new]


def rgc_median(cell, x, r, f, s):
    c, h = s
    a, b = 0.9219348064, 0.7006566685
    o = conv(x, cell.to_h) + (r if isinstance(cell.skip, torch.nn.Identity) else conv(r, cell.skip))
    if f is not None:
        o = o + conv(f, cell.from_feedback)
    c_new = elu(
        a * (1 - sig(separable(c, cell.retain_c))) * c
        + b * (1 - np.tanh(separable(h, cell.gate_c))) * conv(x, cell.to_c)
    )
    h_new = elu(a * (1 - sig(separable(h, cell.retain_h))) * h + b * (1 - np.tanh(separable(c, cell.gate_h))) * o)
    return h_new, [c_new, h_new]


def cornet_rt(cell, x, r, f, s):
    h = np.maximum(norm(conv(x + s[0], cell.conv), cell.norm), 0)
    return h, [h]


SAME_DEPTH = CellShape("n", x=3, channels=3, source=2, feedback=0, size=(H, W))
WIDER = CellShape("n", x=2, channels=3, source=2, feedback=0, size=(H, W))
CASES: dict[str, tuple[str, CellShape, dict, Callable]] = {
    "feedforward": ("feedforward", SAME_DEPTH, {}, feedforward),
    "timedecay": ("timedecay", SAME_DEPTH, {}, time_decay),
    "simplernn": ("simplernn", WIDER, {}, simple_rnn),
    "simplernn, normalised": ("simplernn", WIDER, {"normalise": True}, simple_rnn),
    "gru": ("gru", WIDER, {}, gru),
    "lstm": ("lstm", WIDER, {}, lstm),
    "lstm, 2 x 2, normalised": ("lstm", WIDER, {"kernel": 2, "normalise": True, "forget_bias": 1.356}, lstm),
    "lstm, peepholes": ("lstm", WIDER, {"kernel": 4, "peepholes": True, "normalise": True}, lstm),
    "ugrnn": ("ugrnn", WIDER, {}, ugrnn),
    "intersectionrnn": ("intersectionrnn", SAME_DEPTH, {}, intersection),
    "rgc": ("rgc", SAME_DEPTH, {}, rgc),
    "rgc-median": ("rgc-median", CellShape("n", 3, 3, 3, 0, (H, W)), {"depth": 2}, rgc_median),
    "rgc-median, feedback, projection": ("rgc-median", CellShape("n", 3, 3, 2, 4, (H, W)), {"depth": 2}, rgc_median),
    "cornet-rt": ("cornet-rt", SAME_DEPTH, {}, cornet_rt),
}


def make(name: str, shape: CellShape, options: dict) -> Cell:
    cell = cell_class(name)(shape, **options).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():  # also biases, peepholes, gains and decays, which start at constants
        for parameter in cell.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return cell


@pytest.mark.parametrize("case", CASES)
def test_cell_is_its_equations_over_five_steps(case: str) -> None:
    name, shape, options, reference = CASES[case]
    cell = make(name, shape, options)
    rng = np.random.default_rng(3)
    states = [np.zeros((B, channels, H, W)) for channels in cell.states]
    own = cell.start((H, W), torch.zeros((), dtype=torch.float64))
    for step in range(STEPS):
        x, r = rng.normal(size=(B, shape.x, H, W)), rng.normal(size=(B, shape.source, H, W))
        f = rng.normal(size=(B, shape.feedback, H, W)) if shape.feedback else None
        out, states = reference(cell, x, r, f, states)
        with torch.no_grad():
            found, own = cell(torch.tensor(x), own, torch.tensor(r), None if f is None else torch.tensor(f))
        np.testing.assert_allclose(found.numpy(), out, rtol=1e-9, atol=1e-12, err_msg=f"output of step {step}")
        for state, expected in zip(own, states, strict=True):
            np.testing.assert_allclose(state.numpy(), expected, rtol=1e-9, atol=1e-12, err_msg=f"state of step {step}")


def test_every_cell_has_a_case() -> None:
    assert {name for name, *_ in CASES.values()} == set(CELLS)


@pytest.mark.parametrize("name", ["timedecay", "intersectionrnn", "rgc", "cornet-rt", "feedforward"])
def test_channel_mismatch_names_the_node_and_both_numbers(name: str) -> None:
    with pytest.raises(UserError, match=r"node 'conv7'.*expects 5 channels.*found 3"):
        cell_class(name)(CellShape("conv7", 3, 5, 2, 0, (4, 4)))


def test_unknown_cell_suggests_a_known_one() -> None:
    with pytest.raises(UserError, match="no cell 'lstn'; did you mean lstm"):
        cell_class("lstn")


def test_peepholes_belong_to_one_size() -> None:
    cell = cell_class("lstm")(WIDER, peepholes=True)
    x = torch.zeros(1, 2, H + 1, W)
    with pytest.raises(UserError, match=r"node 'n': its peepholes belong to a map of 5 x 4, found 6 x 4"):
        cell(x, cell.start((H + 1, W), x), x, None)


def test_kernels_of_the_median_cell_are_clipped_to_the_map() -> None:
    cell = cell_class("rgc-median")(CellShape("n", 3, 3, 3, 0, (2, 3)))
    assert cell.retain_c[0].kernel_size == (2, 2)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(224, 7, 2), (9, 3, 2), (6, 2, 1), (5, 4, 1), (8, 3, 1)])
def test_same_convolution_has_tensorflows_size_and_place(size: int, kernel: int, stride: int) -> None:
    """The output's place is that of the taps: total padding halved, the odd pixel after."""
    layer = SameConv2d(1, 1, kernel, stride, bias=False)
    x = torch.randn(1, 1, size, size)
    out = layer(x)
    side = -(-size // stride)
    assert out.shape[-2:] == (side, side)
    first = max((side - 1) * stride + kernel - size, 0) // 2
    for row, column in [(0, 0), (side - 1, side - 1), (side // 2, 0)]:
        expected = 0.0
        for r in range(kernel):
            for s in range(kernel):
                y, z = row * stride + r - first, column * stride + s - first
                if 0 <= y < size and 0 <= z < size:
                    expected += float(layer.weight[0, 0, r, s].detach() * x[0, 0, y, z])
        assert float(out[0, 0, row, column].detach()) == pytest.approx(expected, abs=1e-5)
