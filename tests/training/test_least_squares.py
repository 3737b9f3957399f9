"""Least squares against dense ones: a design matrix with a column for each parameter, made by the predictor itself."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pcbench.errors import RunError, UserError
from pcbench.training import least_squares, moments, normal
from pcbench.training.least_squares import Regression, linear_parts
from pcbench.training.normal import Normal

FORMS = {
    "3x3": (lambda: nn.ConvTranspose2d(3, 2, 3, padding=1), (6, 7)),
    "vgg16's, stride 2": (lambda: nn.ConvTranspose2d(3, 2, 14, stride=2, padding=6), (6, 5)),
    "a map smaller than the window": (lambda: nn.ConvTranspose2d(3, 2, 14, stride=2, padding=6), (2, 2)),
    "phases with other windows": (lambda: nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (5, 6)),
    "an odd size": (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (5, 6)),
    "outputs that see nothing": (lambda: nn.ConvTranspose2d(3, 2, 2, stride=3), (4, 4)),
    "dilated": (lambda: nn.ConvTranspose2d(3, 2, 3, padding=2, dilation=2), (6, 7)),
    "stride and dilation": (lambda: nn.ConvTranspose2d(2, 2, 5, 3, 4, output_padding=2, dilation=2), (6, 5)),
    "no bias": (lambda: nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1, bias=False), (5, 4)),
    "plain convolution": (lambda: nn.Conv2d(3, 2, (3, 5), padding=(1, 2)), (6, 7)),
    "upsampled": (lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.ConvTranspose2d(3, 2, 3, padding=1)), (4, 5)),
}


def design(predictor: nn.Module, last: nn.Module, e: Tensor) -> Tensor:
    """(values of the prediction, parameters): what each parameter adds, from the predictor itself."""
    parameters = list(last.parameters())
    columns = []
    with torch.no_grad():
        for parameter in parameters:
            parameter.zero_()
        for parameter in parameters:
            flat = parameter.view(-1)
            for n in range(len(flat)):
                flat[n] = 1.0
                columns.append(predictor(e).flatten())
                flat[n] = 0.0
    return torch.stack(columns, 1)


def images(predictor: nn.Module, size: tuple[int, int], count: int = 12) -> tuple[Tensor, Tensor]:
    last = linear_parts(predictor, 1).last
    e = torch.randn(count, last.in_channels, *size, dtype=torch.float64)
    with torch.no_grad():
        below = predictor.double()(e)
    return e, below + 0.5 * torch.randn_like(below) + 0.3


@pytest.mark.parametrize("tile", [56, 3])
@pytest.mark.parametrize("form", FORMS)
def test_least_squares_are_those_of_the_dense_design_matrix(
    form: str, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "TILE", tile)
    make, size = FORMS[form]
    predictor = make()
    e, below = images(predictor, size)
    parts = linear_parts(predictor, 1)
    regression = Regression(parts, e[:1], below[:1])
    for start in range(0, len(e), 5):
        regression.add(e[start : start + 5], below[start : start + 5])
    assert regression._moments is not None
    unit = regression._unit(regression._moments)
    found = regression.solve(e[:2], below[:2])
    mine = torch.cat([parameter.detach().view(-1) for parameter in parts.last.parameters()])

    x = design(predictor, parts.last, e)
    weights = parts.last.weight.numel()
    penalty = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    penalty[:weights, :weights] = (found.ridge * unit) ** 0.5 * torch.eye(weights)
    stacked = torch.cat([x, penalty]).numpy()
    wanted = np.linalg.lstsq(stacked, np.append(below.flatten().numpy(), np.zeros(x.shape[1])), rcond=None)[0]
    reached = x.numpy() @ wanted
    np.testing.assert_allclose(x.numpy() @ mine.numpy(), reached, atol=1e-5)  # the parameters are float32
    error = float(((reached - below.flatten().numpy()) ** 2).mean())
    assert found.training_error == pytest.approx(error, rel=1e-9)


def test_a_known_predictor_is_recovered_with_the_smallest_ridge() -> None:
    true = nn.ConvTranspose2d(4, 3, 6, stride=2, padding=2)
    mine = nn.ConvTranspose2d(4, 3, 6, stride=2, padding=2)
    e = torch.randn(30, 4, 8, 8)
    with torch.no_grad():
        below = true(e)
    regression = Regression(linear_parts(mine, 1), e[:1], below[:1])
    regression.add(e[:25], below[:25])
    found = regression.solve(e[25:], below[25:])
    assert found.ridge == min(least_squares.RIDGES)
    assert 0 <= found.training_error < 1e-9
    torch.testing.assert_close(mine.weight, true.weight, rtol=0, atol=1e-4)


def test_errors_are_never_negative_where_the_values_are_large_and_the_noise_small() -> None:
    """Products in float32 lose a noise of 1e-4 beside a mean of 100, and have given errors below zero."""
    mine = nn.ConvTranspose2d(4, 3, 3, padding=1)
    e = 100 + torch.randn(30, 4, 8, 8)
    noise = 1e-3 * torch.randn(30, 3, 8, 8)
    with torch.no_grad():
        below = nn.functional.conv2d(e.double(), torch.randn(3, 4, 1, 1).double()) + noise.double()
    regression = Regression(linear_parts(mine, 1), e[:1], below[:1])
    regression.add(e, below)
    found = regression.solve(e[:4], below[:4])
    assert found.training_error == pytest.approx(1e-6, rel=0.2)


def test_more_noise_needs_a_larger_ridge() -> None:
    chosen = []
    for noise in (0.0, 3.0):
        mine = nn.ConvTranspose2d(8, 2, 5, padding=2)
        e = torch.randn(20, 8, 6, 6)
        with torch.no_grad():
            below = nn.ConvTranspose2d(8, 2, 5, padding=2)(e)
        seen = below + noise * torch.randn_like(below)
        regression = Regression(linear_parts(mine, 1), e[:1], below[:1])
        regression.add(e[:10], seen[:10])
        chosen.append(regression.solve(e[10:], seen[10:]).ridge)
    assert chosen[0] < chosen[1]


def test_sums_do_not_grow_with_images_and_do_not_depend_on_batches() -> None:
    predictor = nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1)
    e, below = images(predictor, (6, 6), 40)
    weights = []
    for batch in (40, 7):
        regression = Regression(linear_parts(predictor, 1), e[:1], below[:1])
        for start in range(0, 36, batch):
            regression.add(e[start : min(36, start + batch)], below[start : min(36, start + batch)])
        sums = regression._moments
        assert sums is not None
        held = [sums.total, sums.cross, *sums._own.values()]
        assert sum(tensor.numel() * 8 for tensor in held) == regression.gathered_bytes
        regression.solve(e[36:], below[36:])
        weights.append(predictor.weight.clone())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-6, atol=1e-7)


def test_a_layer_that_is_always_zero_gives_the_mean() -> None:
    mine = nn.ConvTranspose2d(3, 2, 3, padding=1)
    below = torch.randn(20, 2, 6, 6) + 5
    regression = Regression(linear_parts(mine, 1), torch.zeros(1, 3, 6, 6), below[:1])
    regression.add(torch.zeros(20, 3, 6, 6), below)
    regression.solve(torch.zeros(4, 3, 6, 6), below[:4])
    torch.testing.assert_close(mine.bias, below.mean((0, 2, 3)), rtol=0, atol=1e-5)
    assert not mine.weight.any()


def test_the_images_that_are_needed_have_as_many_windows_as_a_window_has_values() -> None:
    parts = linear_parts(nn.ConvTranspose2d(512, 512, 14, stride=2, padding=6), 5)
    regression = Regression(parts, torch.zeros(1, 512, 14, 14), torch.zeros(1, 512, 28, 28))
    assert regression.unknowns == [512 * 49]
    assert regression.images_needed == -(-512 * 49 // (14 * 14)) == 128


def test_a_factor_leaves_the_matrix_and_other_ridges_are_approached(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2000, 700, dtype=torch.float64)
    gram = x.T @ x
    b = torch.randn(700, 3, dtype=torch.float64).numpy()
    exact = {ridge: np.linalg.solve(gram.numpy() + ridge * np.eye(700), b) for ridge in (10.0, 1000.0)}
    system = Normal(gram.clone())
    for ridge, wanted in exact.items():
        system.factor(ridge)
        np.testing.assert_allclose(system.times(b), gram.numpy() @ b, rtol=1e-10)
        np.testing.assert_allclose(system.solve(b), wanted, rtol=1e-9, atol=1e-15)
    monkeypatch.setattr(normal, "SMALL", 100)
    near = system.approach(10.0, b, system.solve(b))
    assert system.ridge == 1000.0
    assert 0 < np.abs(near - exact[10.0]).max() < 0.02 * np.abs(exact[10.0]).max()
    monkeypatch.undo()
    np.testing.assert_allclose(system.approach(10.0, b, near), exact[10.0], rtol=1e-9, atol=1e-15)
    with pytest.raises(RunError, match="has no Cholesky factor"):
        Normal(-torch.eye(3, dtype=torch.float64)).factor(0.1)


@pytest.mark.parametrize(
    ("predictor", "problem"),
    [
        (nn.Linear(3, 3), "does not end in a convolution"),
        (nn.Sequential(nn.ConvTranspose2d(3, 3, 3), nn.Sigmoid()), "does not end in a convolution"),
        (nn.Sequential(nn.Conv2d(3, 3, 3), nn.ConvTranspose2d(3, 3, 3)), "has parameters in two layers"),
        (nn.ConvTranspose2d(4, 4, 3, groups=2), "a convolution with groups"),
        (nn.Conv2d(3, 3, 3, stride=2), "a convolution with a stride"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "padded with other than"),
    ],
)
def test_predictors_that_are_not_linear_are_refused_with_what_does_apply(predictor: nn.Module, problem: str) -> None:
    with pytest.raises(UserError, match=rf"PCoder 7: its predictor .*{problem}.*--method gradient does"):
        linear_parts(predictor, 7)


def test_a_relu_behind_is_left_out_of_the_solution_and_counted_in_the_choice() -> None:
    predictor = nn.Sequential(nn.ConvTranspose2d(3, 2, 3, padding=1), nn.ReLU(inplace=True))
    parts = linear_parts(predictor, 1)
    assert parts.rectified
    linear = nn.ConvTranspose2d(3, 2, 3, padding=1)
    e, below = torch.randn(20, 3, 6, 6), torch.randn(20, 2, 6, 6).relu()
    for made in (parts, linear_parts(linear, 1)):
        regression = Regression(made, e[:1], below[:1])
        regression.add(e, below)
        regression.solve(e, below)
    torch.testing.assert_close(parts.last.weight, linear.weight, rtol=0, atol=1e-3)  # the ridge may differ


def test_refinement_takes_the_error_that_the_relu_leaves_to_its_minimum() -> None:
    """Against gradient descent on the convex loss that refinement minimises, in float64."""
    predictor = nn.Sequential(nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), nn.ReLU())
    parts = linear_parts(predictor, 1)
    e = torch.randn(30, 3, 6, 6)
    with torch.no_grad():
        below = nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1)(e)
        below = (3 * below + 0.3 * torch.randn_like(below) - 0.5).relu()

    def loss(predicted: Tensor) -> Tensor:
        return torch.where(below > 0, predicted - below, predicted.relu()).square().mean()

    regression = Regression(parts, e[:1], below[:1])
    regression.add(e, below)
    regression.solve(e, below, refine=True)
    with torch.no_grad():
        begun = float(loss(parts.last(e))), float((predictor(e) - below).square().mean())
    for step in range(40):
        regression.add_again(e, below)
        regression.refine(last=step == 39)
    with torch.no_grad():
        ended = float(loss(parts.last(e))), float((predictor(e) - below).square().mean())
    other = nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1)
    optimiser = torch.optim.LBFGS(other.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(other(e))
        torch.autograd.backward(value)
        return value

    for _ in range(3):
        optimiser.step(closure)
    assert ended[0] == pytest.approx(float(loss(other(e)).detach()), rel=5e-3)
    assert ended[0] < 0.5 * begun[0]
    assert ended[1] < 0.5 * begun[1]
