"""The attacks' own mathematics, against slow literal versions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcbench.perturbations.attacks.apgd import AutoPGD, checkpoints
from pcbench.perturbations.attacks.ball import project
from pcbench.perturbations.attacks.engine import Ball, State
from pcbench.perturbations.attacks.fab import to_hyperplane
from pcbench.perturbations.attacks.losses import cross_entropy, dlr, gap, margin
from pcbench.perturbations.attacks.pgd import GradientSteps, _steps
from pcbench.perturbations.attacks.square import HALVED, Square
from pcbench.perturbations.attacks.victim import Answer, Rows

NONE = torch.tensor([-1])


def rows_of(origin: Tensor) -> Rows:
    none = torch.full((len(origin),), -1)
    return Rows(origin, torch.zeros_like(none), none, none, list(range(len(origin))))


def wavy(x: Tensor) -> tuple[Tensor, Tensor]:
    """A loss with many maxima, (B,), and its gradient."""
    asked = x.detach().clone().requires_grad_()
    weights = torch.linspace(1, 40, asked[0].numel())
    loss = (weights * asked.flatten(1)).sin().sum(1) + asked.flatten(1).sum(1)
    (gradient,) = torch.autograd.grad(loss.sum(), asked)
    return loss.detach(), gradient


def literal_apgd(origin: Tensor, start: Tensor, epsilon: float, norm: str, steps: int) -> tuple[Tensor, list[float]]:
    """Algorithm 1 of Croce and Hein (2020), one image, word by word."""

    def onto(x: Tensor) -> Tensor:
        return project(x, origin, epsilon, norm)

    def direction(g: Tensor) -> Tensor:
        return g.sign() if norm == "linf" else g / g.norm()

    x, previous, eta = start, start, 2 * epsilon
    loss, gradient = wavy(x)
    best, best_x, best_gradient = float(loss), x, gradient
    then, reduced = best, True
    sizes, losses = [], [float(loss)]
    marks = checkpoints(steps)
    for k in range(steps):
        if k in marks:
            last = [0, *marks][marks.index(k)]
            raised = sum(losses[j + 1] > losses[j] for j in range(last, k))
            stuck = not reduced and then >= best
            reduced = raised < 0.75 * (k - last) or stuck
            then = best
            if reduced:
                eta, x, gradient = eta / 2, best_x, best_gradient
        sizes.append(eta)
        z = onto(x + eta * direction(gradient))
        a = 1.0 if k == 0 else 0.75
        previous, x = x, onto(x + a * (z - x) + (1 - a) * (x - previous))
        loss, gradient = wavy(x)
        losses.append(float(loss))
        if float(loss) > best:
            best, best_x, best_gradient = float(loss), x, gradient
    return best_x, sizes


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 7, 40, 100])
def test_auto_pgd_is_its_algorithm_row_by_row(norm: str, steps: int) -> None:
    epsilon = 0.2 if norm == "linf" else 0.6
    origin = torch.rand(3, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    rows, ball = rows_of(origin), Ball(norm, epsilon)
    method = AutoPGD(steps)
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    state: State = method.begin(rows, ball, [0, 0, 0], generators) | {"k": torch.zeros(3, dtype=torch.long)}
    start = state["x"].clone()
    sizes = []
    for _ in range(steps):
        loss, gradient = wavy(state["x"])
        method.advance(rows, ball, state, Answer(loss, loss, loss[:, None], gradient))
        sizes.append(state["size"].clone())
        state["k"] += 1
    for row in range(3):
        best_x, expected = literal_apgd(origin[row : row + 1], start[row : row + 1], epsilon, norm, steps)
        assert [float(size[row]) for size in sizes] == pytest.approx(expected)
        loss, _ = wavy(state["x"][row : row + 1])
        found = state["best_x"] if float(loss) <= float(state["best"][row]) else state["x"]
        torch.testing.assert_close(found[row : row + 1], best_x)


def test_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(10) == [2, 3, 4, 5, 6, 7, 8, 9, 10]


@given(seed=st.integers(0, 10_000), norm=st.sampled_from(["linf", "l2"]), reach=st.floats(-3, 3))
@settings(max_examples=60, deadline=None)
def test_the_way_to_a_hyperplane_inside_the_box_is_the_shortest(seed: int, norm: str, reach: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, 9, generator=generator, dtype=torch.float64)
    x[0, 0], x[0, 1] = 0.0, 1.0
    w = torch.randn(1, 9, generator=generator, dtype=torch.float64)
    w[0, 2] = 0.0
    b = (w * x).sum(1) + reach
    move = to_hyperplane(x, w, b, norm)
    assert float((x + move).min()) >= -1e-12
    assert float((x + move).max()) <= 1 + 1e-12

    def literal(level: float) -> Tensor:
        """Every coordinate as far as a level lets it, towards the plane."""
        side = w.sign() * torch.sign(torch.tensor(reach))
        room = torch.where(side > 0, 1 - x, torch.where(side < 0, x, torch.zeros_like(x)))
        rate = torch.ones_like(w) if norm == "linf" else w.abs()
        return side * torch.minimum(level * rate, room)

    low, high = 0.0, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        short = abs(float((w * literal(middle)).sum())) < abs(reach)
        low, high = (middle, high) if short else (low, middle)
    size = {"linf": lambda d: float(d.abs().max()), "l2": lambda d: float(d.norm())}[norm]
    assert size(move) == pytest.approx(size(literal(high)), abs=1e-9)
    reachable = abs(float((w * literal(1e4)).sum())) >= abs(reach)
    if reachable:
        assert float((w * (x + move)).sum()) == pytest.approx(float(b), abs=1e-9)


def test_losses_are_their_formulas() -> None:
    z = torch.tensor([[3.0, 1.0, 2.5, -1.0, 0.5]])
    y, t = torch.tensor([0]), torch.tensor([3])
    assert float(margin(z, y, NONE)) == pytest.approx(2.5 - 3)
    assert float(margin(z, y, t)) == pytest.approx(-1 - 3)
    assert float(dlr(z, y, NONE)) == pytest.approx(-(3 - 2.5) / (3 - 1))
    assert float(dlr(z, y, t)) == pytest.approx(-(3 + 1) / (3 - (1 + 0.5) / 2))
    p = z.softmax(1)
    assert float(cross_entropy(z, y, NONE)) == pytest.approx(-float(p[0, 0].log()))
    assert float(cross_entropy(z, y, t)) == pytest.approx(float(p[0, 3].log()))
    assert float(gap(z, y, NONE)) == pytest.approx(-0.5)
    assert float(gap(z, y, t)) == pytest.approx(-4)
    assert float(dlr(5 * z + 2, y, NONE)) == pytest.approx(float(dlr(z, y, NONE)))


def test_the_momentum_of_mi_fgsm_has_gradients_of_equal_l1_norm() -> None:
    origin = torch.full((1, 1, 2, 2), 0.5)
    rows, ball = rows_of(origin), Ball("linf", 0.3)
    method = GradientSteps(3, 1 / 3, momentum=1.0, random_start=False)
    state = method.begin(rows, ball, [0], [torch.Generator()]) | {"k": torch.zeros(1, dtype=torch.long)}
    # The second gradient is a thousand times the first and points the other way in half of the pixels: divided by
    # their L1 norms they cancel there, and the sum keeps the sign of the rest.
    gradients = [torch.tensor([[[[1.0, 1.0], [1.0, 1.0]]]]), 1000 * torch.tensor([[[[1.0, 1.0], [-1.2, -0.8]]]])]
    for gradient in gradients:
        method.advance(rows, ball, state, Answer(NONE, NONE, NONE[:, None], gradient))
        state["k"] += 1
    v = sum(4 * g / g.abs().sum() for g in gradients)
    torch.testing.assert_close(state["v"], v)
    torch.testing.assert_close(state["x"], origin + 0.1 * gradients[0].sign() + 0.1 * v.sign())


def test_squares_shrink_as_published() -> None:
    image = torch.zeros(1, 3, 32, 32)
    method = Square(10_000)
    for k, halvings in ((0, 0), (10, 0), (11, 1), (51, 2), (201, 3), (8001, len(HALVED))):
        side = int(method._sides(torch.tensor([k]), image, "linf"))
        assert side == max(1, round((0.8 * 0.5**halvings * 1024) ** 0.5))
    rescaled = Square(100, rescaled=True)
    assert int(rescaled._sides(torch.tensor([90]), image, "linf")) == int(
        method._sides(torch.tensor([9000]), image, "linf")
    )


def test_bim_keeps_its_own_length_of_a_step_whatever_its_momentum() -> None:
    options = {"steps": 10, "relative_step": 0.0, "momentum": 0.5, "random_start": False}
    assert _steps(2.5)(options).relative_step == 0.25
    assert _steps(1.0)(options).relative_step == 0.1
    assert _steps(2.5)({**options, "relative_step": 0.7}).relative_step == 0.7
    assert _steps(2.5)({**options, "steps": 1}).relative_step == 1
