"""What an attack asks of a network: its readouts, and that gradients are those of the whole computation."""

from collections import OrderedDict

import pytest
import torch
from tiny_network import CLASSES, TIMESTEPS, Checkpointed, Tiny, network, task
from torch import Tensor

from pcbench.errors import UserError
from pcbench.models.base import FeedforwardClassifier, Preprocessing, TemporalClassifier
from pcbench.models.hah import FractionalThreshold
from pcbench.perturbations.attacks.isolation import frozen
from pcbench.perturbations.attacks.losses import LOSSES
from pcbench.perturbations.attacks.memory import needed, stored_bytes, wants_checkpointing
from pcbench.perturbations.attacks.victim import OBJECTIVES, READOUTS, Aim, Objective, Readout, Rows, Victim


def double(masked: bool = False) -> Tiny:
    model = Tiny(masked)
    model.load_state_dict(network().state_dict())
    return model.double().eval()


def victim_of(model: TemporalClassifier, aim: Aim, loss: str = "ce", gradient: str = "exact") -> Victim:
    return Victim(model, aim, LOSSES[loss], gradient=gradient)


def rows_of(images: Tensor, labels: Tensor, targets: Tensor | None = None) -> Rows:
    none = torch.full_like(labels, -1)
    return Rows(images, labels, none if targets is None else targets, none, list(range(len(labels))))


def gradient_of(victim: Victim, images: Tensor, rows: Rows) -> Tensor:
    gradient = victim.ask(images, rows, True).gradient
    assert gradient is not None
    return gradient


def disagreement(victim: Victim, images: Tensor, rows: Rows) -> float:
    """Largest relative difference between the gradient and central differences of the loss, over random directions."""
    gradient = gradient_of(victim, images, rows)
    worst = 0.0
    for seed in range(3):
        direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed), dtype=images.dtype)
        step = 1e-5 * direction
        ahead, behind = (victim.ask(images + side * step, rows, False).loss for side in (1, -1))
        measured, claimed = (ahead - behind) / 2e-5, (gradient * direction).flatten(1).sum(1)
        worst = max(worst, float(((measured - claimed).abs() / measured.abs().clamp_min(1e-3)).max()))
    return worst


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("readout", READOUTS)
def test_gradients_agree_with_finite_differences_through_every_readout(readout: Readout, loss: str) -> None:
    images, labels = task(3, seed=3)
    images = images.double()
    for at in (0, TIMESTEPS):
        victim = victim_of(double(), Aim(readout, at), loss)
        for targets in (None, (labels + 1) % CLASSES):
            assert disagreement(victim, images, rows_of(images, labels, targets)) < 1e-4


@pytest.mark.parametrize(("masked", "gradient"), [(True, "exact"), (False, "truncated")])
def test_detached_states_and_truncated_error_terms_fail_the_same_check(masked: bool, gradient: str) -> None:
    images, labels = task(3, seed=3)
    victim = victim_of(double(masked), Aim("timestep", TIMESTEPS), gradient=gradient)
    assert disagreement(victim, images.double(), rows_of(images.double(), labels)) > 0.01


def small_predictive(timesteps: int = 2) -> TemporalClassifier:
    from pcbench.models.predictive.classifier import PredictiveClassifier
    from pcbench.models.predictive.predify import predify

    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        OrderedDict(
            features=torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Softplus()),
            flat=torch.nn.Flatten(),
            head=torch.nn.Linear(4 * 64, 3),
        )
    )
    config = {
        "name": "Small",
        "gradient_scaling": True,
        "input_size": [3, 8, 8],
        "pcoders": [{"module": "features[1]", "hyperparameters": {"feedforward": 0.5, "feedback": 0.0, "pc": 0.5}}],
    }
    net = predify(backbone, config)
    preprocessing = Preprocessing((8, 8), (0.5,) * 3, (0.25,) * 3)
    return PredictiveClassifier(net, 3, preprocessing, timesteps).double().eval().requires_grad_(False)


def test_predictive_networks_are_attacked_through_their_error_term() -> None:
    model = small_predictive()
    labels = torch.tensor([1])
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    rows = rows_of(images, labels)
    for t in range(3):
        assert disagreement(victim_of(model, Aim("timestep", t)), images, rows) < 1e-4
    assert disagreement(victim_of(model, Aim("timestep", 2), gradient="truncated"), images, rows) > 1e-3


def test_the_gradient_of_the_last_steps_is_that_of_the_whole_when_they_are_all() -> None:
    model = small_predictive(3)
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    rows = rows_of(images, torch.tensor([1, 2]))
    names = ("exact", "last-1", "last-2", "last-4")
    victims = {name: victim_of(model, Aim("timestep", 3), gradient=name) for name in names}
    found = {name: victim.ask(images, rows, True) for name, victim in victims.items()}
    exact = gradient_of(victims["exact"], images, rows)
    for answer in found.values():
        torch.testing.assert_close(answer.logits, found["exact"].logits)
    torch.testing.assert_close(gradient_of(victims["last-4"], images, rows), exact)
    far, near = (float((gradient_of(victims[name], images, rows) - exact).norm()) for name in ("last-1", "last-2"))
    assert far > near > 0
    with pytest.raises(UserError, match="no gradient 'last-1'; known: exact, truncated"):
        victim_of(network(), Aim("timestep", 3), gradient="last-1").ask(images.float(), rows, True)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_decide_the_gradient_and_never_the_loss(objective: Objective) -> None:
    model = small_predictive(3)
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    rows = rows_of((images + 0.01).clamp(0, 1), torch.tensor([1, 2]))
    plain, other = victim_of(model, Aim("timestep", 3)), victim_of(model, Aim("timestep", 3, objective))
    torch.testing.assert_close(other.ask(images, rows, True).loss, plain.ask(images, rows, True).loss)
    torch.testing.assert_close(other.ask(images, rows, True).gap, plain.ask(images, rows, True).gap)
    same = torch.equal(gradient_of(other, images, rows), gradient_of(plain, images, rows))
    assert same == (objective == "readout")


def test_objectives_are_the_sums_that_they_say() -> None:
    model = small_predictive(2)
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    origin = (images + 0.01).clamp(0, 1)
    rows = rows_of(origin, torch.tensor([1]))
    each = [gradient_of(victim_of(model, Aim("timestep", t)), images, rows) for t in range(3)]
    summed = gradient_of(victim_of(model, Aim("timestep", 2, "timesteps")), images, rows)
    torch.testing.assert_close(summed, torch.stack(each).sum(0))
    stepwise = gradient_of(victim_of(model, Aim("timestep", 2, "each-timestep")), images, rows)
    torch.testing.assert_close(stepwise, torch.stack([one / one.abs().mean() for one in each]).sum(0))
    asked = images.clone().requires_grad_()
    moved = torch.zeros(())
    for (_, here), (_, clean) in zip(model.representations(asked, 2), model.representations(origin, 2), strict=True):
        for state, rest in zip(here, clean, strict=True):
            moved = moved + (state - rest).square().sum() / rest.square().sum()
    (away,) = torch.autograd.grad(moved, asked)
    found = gradient_of(victim_of(model, Aim("timestep", 2, "states")), images, rows)
    torch.testing.assert_close(found, each[2] + away, rtol=1e-4, atol=1e-7)


def test_a_smooth_stand_in_changes_the_gradient_of_a_jump_and_no_value() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), FractionalThreshold(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    model = FeedforwardClassifier(net, 3, Preprocessing((8, 8), (0.5,) * 3, (0.25,) * 3)).eval().requires_grad_(False)
    assert model.gradients == ("exact", "smoothed")
    images, labels = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    rows = rows_of(images, labels)
    exact, smooth = (victim_of(model, Aim("timestep", 0), gradient=name) for name in model.gradients)
    assert torch.equal(exact.ask(images, rows, False).logits, smooth.ask(images, rows, False).logits)
    assert not torch.equal(gradient_of(exact, images, rows), gradient_of(smooth, images, rows))
    assert not any(module.smooth for module in net if isinstance(module, FractionalThreshold)), "left as it was"


def test_readouts_are_what_they_say() -> None:
    images, labels = task(16, seed=3)
    rows = rows_of(images, labels)
    with torch.no_grad():
        logits = network()(images)
    each = torch.stack([LOSSES["margin"](one, labels, rows.targets) for one in logits])
    for t in range(TIMESTEPS + 1):
        answer = victim_of(network(), Aim("timestep", t), "margin").ask(images, rows, False)
        torch.testing.assert_close(answer.logits, logits[t])
        torch.testing.assert_close(answer.gap, each[t])
    mean = victim_of(network(), Aim("mean", TIMESTEPS), "margin").ask(images, rows, False)
    torch.testing.assert_close(mean.logits.exp(), logits.softmax(-1).mean(0))
    worst = victim_of(network(), Aim("worst", TIMESTEPS), "margin").ask(images, rows, False)
    torch.testing.assert_close(worst.gap, each.amax(0))
    jointly = victim_of(network(), Aim("sum", TIMESTEPS), "margin").ask(images, rows, False)
    torch.testing.assert_close(jointly.loss, each.sum(0))
    torch.testing.assert_close(jointly.gap, each.amin(0))


def test_the_jacobian_has_the_gradient_of_every_logit() -> None:
    images, labels = task(2, seed=3)
    rows = rows_of(images, labels)
    jacobian = victim_of(network(), Aim("timestep", 2)).ask(images, rows, True, each_class=True).jacobian
    assert jacobian is not None
    for row in range(2):
        exact = torch.autograd.functional.jacobian(lambda x: network()(x, timesteps=2)[-1][0], images[row : row + 1])
        torch.testing.assert_close(jacobian[row], exact[:, 0], atol=1e-5, rtol=1e-4)


def test_checkpointing_gives_the_same_gradient_with_less_memory() -> None:
    images, labels = task(8, seed=3)
    model = Checkpointed()
    model.load_state_dict(network().state_dict())
    rows = rows_of(images, labels)
    found = {}
    for checkpointing in (False, True):
        with frozen(model):
            victim = Victim(model, Aim("timestep", 24), LOSSES["ce"], checkpointing=checkpointing)
            asked = images.clone().requires_grad_()
            stored = stored_bytes(lambda v=victim, x=asked: v.logits(x, rows))
            found[checkpointing] = gradient_of(victim, images, rows), stored
    assert torch.equal(found[False][0], found[True][0])
    assert found[True][1] < 0.6 * found[False][1]


def test_memory_is_extrapolated_from_two_timesteps() -> None:
    model = network()
    image = torch.full((1, *model.input_size), 0.5, requires_grad=True)
    exact = stored_bytes(lambda: model(image, timesteps=9))
    assert needed(model, model.input_size, 9) == pytest.approx(exact, rel=0.15)


def test_checkpointing_is_chosen_when_memory_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    assert not wants_checkpointing(model, model.input_size, 3, 4)
    monkeypatch.setattr("pcbench.perturbations.attacks.memory.free", lambda device: 10_000)
    assert wants_checkpointing(model, model.input_size, 3, 4)
    assert not wants_checkpointing(model, model.input_size, 0, 4)


class ChannelsLast(Tiny):
    """Answers in a layout of its own, as the networks that are built for speed do."""

    def forward(self, images: Tensor, timesteps: int | None = None) -> Tensor:
        return super().forward(images.contiguous(memory_format=torch.channels_last), timesteps=timesteps)


def test_the_gradient_is_laid_out_like_images_whatever_layout_the_network_prefers() -> None:
    images, labels = task(2, seed=3)
    images.requires_grad_()
    model = ChannelsLast().eval()
    (gradient,) = torch.autograd.grad(model(images, timesteps=1)[-1].sum(), images)
    assert not gradient.is_contiguous(), "the network alone gives its own layout"
    assert gradient_of(victim_of(model, Aim("timestep", 1)), images, rows_of(images, labels)).is_contiguous()
