"""How a classifier is asked: what is refused, the answer at one timestep, and what asking must leave alone."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import pcbench
from pcbench.errors import UserError
from pcbench.models.base import AtTimestep, FeedforwardClassifier, Preprocessing, TemporalClassifier
from pcbench.models.controls import Averaging
from pcbench.models.predictive.classifier import PredictiveClassifier

PREPROCESSING = Preprocessing((8, 8), (0.5,) * 3, (0.25,) * 3)


class Drifting(TemporalClassifier):
    """All that a user has to write: one method."""

    def __init__(self) -> None:
        super().__init__(5, PREPROCESSING, timesteps=3)
        self.network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        logits = self.network(x).mean((2, 3))
        return torch.stack([(1 + t) * logits for t in range(timesteps + 1)])


def feedforward() -> FeedforwardClassifier:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return FeedforwardClassifier(network, 5, PREPROCESSING)


def predictive() -> PredictiveClassifier:
    class Backbone(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            out: Tensor = super().forward(input).mean((2, 3))
            return out

    backbone = Backbone(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1))
    backbone[1].eval()
    config = {"input_size": [3, 8, 8], "pcoders": [{"module": "0"}, {"module": "3"}]}
    return PredictiveClassifier(pcbench.predify(backbone, config), 5, PREPROCESSING, timesteps=3)


MODELS = {"drifting": Drifting, "feedforward": feedforward, "predictive": predictive}


def norm_of(model: nn.Module) -> nn.BatchNorm2d:
    return next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))


@pytest.mark.parametrize("name", MODELS)
def test_the_answer_at_a_timestep_is_that_of_the_whole_pass(name: str) -> None:
    model = MODELS[name]().eval()
    images = torch.rand(2, 3, 8, 8)
    whole = model(images, 3)
    for t in range(4):
        torch.testing.assert_close(model.at(t)(images), whole[t])
    with pytest.raises(UserError, match="timestep is -1"):
        model.at(-1)


ORDERS = [
    lambda model: [model.at(1)],
    lambda model: [model.at(0), model.at(2), model.at(2)],
    lambda model: [model.at(1).train()],
    lambda model: [model.at(1).eval().train()],
    lambda model: [model.at(1).eval().eval().train().train()],
    lambda model: [one := model.at(1), two := model.at(2), one.eval(), two.eval(), one.train(), two.train()],
    lambda model: [one := model.at(1), two := model.at(2), one.eval(), two.eval(), two.train(), one.train()],
    lambda model: [nn.Sequential(model.at(1)).train()],
    lambda model: [copy.deepcopy(model.at(1).eval()).train()],
]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("order", ORDERS)
def test_a_frozen_normalisation_stays_in_eval_mode(name: str, order) -> None:
    model = MODELS[name]().train()
    norm_of(model).eval()
    made = order(model)
    assert not norm_of(model).training
    assert all(not norm_of(wrapper).training for wrapper in made)
    before = norm_of(model).running_mean.clone()
    made[0](torch.rand(2, 3, 8, 8))
    assert torch.equal(norm_of(model).running_mean, before)


def test_a_wrapper_s_train_undoes_its_eval() -> None:
    model = Drifting().train()
    norm_of(model).eval()
    before = [(module, module.training) for module in model.modules()]
    wrapper = model.at(1).eval()
    assert not any(module.training for module in wrapper.modules())
    wrapper.train()
    assert [(module, module.training) for module in model.modules()] == before
    assert wrapper.training


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: Averaging(model, 0.1),
        lambda model: predictive(),
        lambda model: pickle.loads(pickle.dumps(AtTimestep(model, 0))),
    ],
)
def test_building_on_a_network_leaves_its_frozen_normalisation_alone(wrap) -> None:
    model = feedforward().train()
    norm_of(model).eval()
    assert not norm_of(wrap(model)).training


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("images", "line"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "images are uint8; mine takes floating-point numbers"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), "images are int64"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.bool), "images are bool"),
        (torch.rand(2, 3, 8, 8) * 255, "mine takes images in [0, 1]: images / 255"),
        (torch.cat([torch.rand(3, 3, 8, 8), 255 * torch.rand(1, 3, 8, 8)]), "images / 255"),
        (torch.rand(2, 3, 16, 16), "images are 16 x 16; mine takes 8 x 8"),
        (torch.rand(2, 3, 4, 8), "images are 4 x 8"),
        (torch.rand(2, 1, 8, 8), "images have shape (2, 1, 8, 8)"),
        (torch.rand(3, 8, 8), "images have shape (3, 8, 8)"),
    ],
)
def test_what_are_no_images_for_the_model_is_refused(name: str, images: Tensor, line: str) -> None:
    model = MODELS[name]().eval()
    model.name = "mine"
    for ask in (model, model.at(0)):
        with pytest.raises(UserError) as raised:
            ask(images)
        assert line in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 8, 8),
        torch.ones(2, 3, 8, 8),
        torch.rand(2, 3, 8, 8).double().float().half().float(),
        torch.rand(2, 3, 8, 8) + 3 * torch.randn(2, 3, 8, 8),  # noise of twelve standard deviations of the data
        torch.rand(2, 3, 8, 8) * 2 - 0.5,
        torch.rand(0, 3, 8, 8),
    ],
)
def test_perturbed_images_are_not_refused(images: Tensor) -> None:
    assert Drifting().eval()(images, 1).shape == (2, len(images), 5)


def test_another_size_is_taken_once_somebody_says_so() -> None:
    model = Drifting().eval()
    model.any_size = True
    assert model(torch.rand(2, 3, 12, 16), 1).shape == (2, 2, 5)


def test_registered_networks_refuse_images_of_another_size() -> None:
    model = pcbench.load_model("vgg16-cifar?width=0.1", "random")
    for size in (16, 64, 224):
        with pytest.raises(UserError, match=f"images are {size} x {size}; vgg16-cifar takes 32 x 32"):
            model(torch.rand(1, 3, size, size))


def test_values_are_looked_at_on_the_cpu_always_and_elsewhere_once() -> None:
    model = Drifting().eval()
    assert model._can_look_at(torch.rand(1, 3, 8, 8))
    assert not model._can_look_at(torch.rand(1, 3, 8, 8, device="meta"))

    class OnDevice:
        device = torch.device("cuda")

    assert not model._can_look_at(OnDevice())  # type: ignore[arg-type]  # nor anything that only looks like a tensor
    images = torch.rand(3, 3, 8, 8)
    assert torch.func.grad(lambda x: model(x, 1)[-1].square().sum())(images).shape == images.shape


def test_there_is_one_way_to_ask() -> None:
    asked = {"forward", "at", "representations", "rollout"}
    assert asked <= set(dir(TemporalClassifier))
    assert not {"answer", "last", "predict"} & set(dir(TemporalClassifier))
