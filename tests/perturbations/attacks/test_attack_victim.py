"""The classifier that an attack sees: its readouts, and that its gradients are those of the whole computation."""

import math
from collections import OrderedDict

import pytest
import torch
from tiny_network import CLASSES, TIMESTEPS, Checkpointed, Tiny, network, task
from torch import Tensor
from torch.nn import functional as F

from pcbench.models.base import Preprocessing, TemporalClassifier
from pcbench.perturbations.attacks.isolation import frozen, seeded
from pcbench.perturbations.attacks.memory import needed, stored_bytes, wants_checkpointing
from pcbench.perturbations.attacks.victim import Readout, Victim


def double(masked: bool = False) -> Tiny:
    model = Tiny(masked)
    model.load_state_dict(network().state_dict())
    return model.double().eval()


@pytest.mark.parametrize("readout", [*range(TIMESTEPS + 1), "mean", "worst"])
def test_gradients_agree_with_finite_differences_in_float64(readout: Readout) -> None:
    images, labels = task(2, seed=3)
    images = images.double()[:, :, 2:6, 2:6].repeat(1, 1, 2, 2)
    victim = Victim(double(), readout, TIMESTEPS, labels)
    assert torch.autograd.gradcheck(lambda x: F.cross_entropy(victim(x), labels), images.clone().requires_grad_())


@pytest.mark.parametrize(("masked", "gradient"), [(True, "exact"), (False, "truncated")])
def test_detached_states_and_truncated_error_terms_fail_the_same_check(masked: bool, gradient: str) -> None:
    images, labels = task(1, seed=3)
    model = double(masked)
    victim = Victim(model, TIMESTEPS, TIMESTEPS, labels)
    with model.differentiated(gradient):
        assert not torch.autograd.gradcheck(
            lambda x: F.cross_entropy(victim(x), labels), images.double().requires_grad_(), raise_exception=False
        )


def test_predictive_networks_are_attacked_through_their_error_term() -> None:
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
    model = PredictiveClassifier(net, 3, Preprocessing((8, 8), (0.5,) * 3, (0.25,) * 3), 2).double().eval()
    labels = torch.tensor([1])
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    for t in range(3):
        victim = Victim(model, t, 2, labels)
        assert torch.autograd.gradcheck(lambda x, v=victim: F.cross_entropy(v(x), labels), images.requires_grad_())
    with model.differentiated("truncated"):
        victim = Victim(model, 2, 2, labels)
        assert not torch.autograd.gradcheck(
            lambda x: F.cross_entropy(victim(x), labels), images.requires_grad_(), raise_exception=False
        )


def test_readouts_are_what_they_say() -> None:
    images, labels = task(16, seed=3)
    with torch.no_grad():
        logits = network()(images)
        for t in range(TIMESTEPS + 1):
            torch.testing.assert_close(Victim(network(), t, TIMESTEPS, labels)(images), logits[t])
        mean = Victim(network(), "mean", TIMESTEPS, labels)(images)
        torch.testing.assert_close(mean.exp(), logits.softmax(-1).mean(0))
        worst = Victim(network(), "worst", TIMESTEPS, labels)(images)
    for row, label in enumerate(labels.tolist()):
        margins = []
        for t in range(TIMESTEPS + 1):
            others = [float(logits[t, row, c]) for c in range(CLASSES) if c != label]
            margins.append(float(logits[t, row, label]) - max(others))
        torch.testing.assert_close(worst[row], logits[margins.index(min(margins)), row])


def test_one_label_serves_many_copies_of_an_image() -> None:
    images, labels = task(1, seed=3)
    copies = images.repeat(5, 1, 1, 1)
    victim = Victim(network(), "worst", TIMESTEPS, labels)
    with torch.no_grad():
        assert torch.equal(victim(copies)[4], victim(copies)[0])


def test_writing_into_an_answer_does_not_change_the_next() -> None:
    images, labels = task(2, seed=3)
    victim = Victim(network(), 1, TIMESTEPS, labels)
    with torch.no_grad():
        first = victim(images)
        kept = first.clone()
        first.fill_(-math.inf)  # Square does this to the column of the label
        assert torch.equal(victim(images), kept)


def test_the_wrapper_takes_its_mode_from_the_model_and_does_not_set_it() -> None:
    model = Tiny().eval()
    assert not Victim(model, 0, TIMESTEPS, torch.zeros(1, dtype=torch.long)).training
    model.encoder.train()
    Victim(model, 0, TIMESTEPS, torch.zeros(1, dtype=torch.long))
    assert model.encoder.training


class RandomStart(TemporalClassifier):
    """Draws its state from the global random state, as a network with a random initial state does."""

    def __init__(self) -> None:
        super().__init__(3, Preprocessing((4, 4), (0.5,) * 3, (0.25,) * 3), 2)
        self.head = torch.nn.Linear(48, 3)

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        state = x + 2 * torch.randn_like(x)
        answers = []
        for _ in range(timesteps + 1):
            answers.append(self.head(state.flatten(1)))
            state = 0.5 * state + 0.5 * x
        return torch.stack(answers)


def test_averaging_over_initial_states_approaches_the_expected_gradient() -> None:
    torch.manual_seed(0)
    model = RandomStart().eval()
    image, label = torch.rand(1, 3, 4, 4), torch.tensor([1])

    def gradient(samples: int, key: int) -> Tensor:
        with frozen(model), seeded(key, torch.device("cpu")):
            asked = image.clone().requires_grad_()
            loss = F.cross_entropy(Victim(model, 0, 2, label, samples)(asked), label)
            return torch.autograd.grad(loss, asked)[0]

    reference = gradient(20000, 1)
    one = torch.stack([(gradient(1, key) - reference).norm() for key in range(20)]).mean()
    many = torch.stack([(gradient(64, key) - reference).norm() for key in range(20)]).mean()
    assert float(many) < 0.35 * float(one)
    assert torch.equal(gradient(8, 3), gradient(8, 3))


def test_checkpointing_gives_the_same_gradient_with_less_memory() -> None:
    images, labels = task(8, seed=3)
    model = Checkpointed()
    model.load_state_dict(network().state_dict())
    steps = 24
    found = {}
    for checkpointing in (False, True):
        with frozen(model), model.differentiated(checkpointing=checkpointing):
            asked = images.clone().requires_grad_()
            victim = Victim(model, steps, steps, labels)
            loss = F.cross_entropy(victim(asked), labels, reduction="sum")
            gradient = torch.autograd.grad(loss, asked)[0]
            found[checkpointing] = gradient, stored_bytes(lambda v=victim, x=asked: v(x))
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

    def forward(self, images: Tensor, *, timesteps: int | None = None) -> Tensor:
        return super().forward(images.contiguous(memory_format=torch.channels_last), timesteps=timesteps)


def test_the_gradient_is_laid_out_like_images_whatever_layout_the_network_prefers() -> None:
    images, labels = task(2, seed=3)
    images.requires_grad_()
    model = ChannelsLast().eval()
    (gradient,) = torch.autograd.grad(model(images, timesteps=1)[-1].sum(), images)
    assert not gradient.is_contiguous(), "the network alone gives its own layout"
    (gradient,) = torch.autograd.grad(Victim(model, 1, TIMESTEPS, labels)(images).sum(), images)
    assert gradient.is_contiguous()
