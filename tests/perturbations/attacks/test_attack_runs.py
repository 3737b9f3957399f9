"""Every attack on a small trained network: the ball, what it beats, what it leaves as it found it."""

import random

import numpy as np
import pytest
import torch
from tiny_network import TIMESTEPS, Tiny, accuracy, attack, context, network, task

from pcbench.perturbations.attacks.attack import ATTACKS
from pcbench.perturbations.attacks.ball import distance
from pcbench.perturbations.noise_control import NoiseControl

QUICK: dict[str, dict[str, object]] = {
    "apgd-ce": {"steps": 8},
    "apgd-dlr": {"steps": 8},
    "apgd-t": {"steps": 8, "targets": 2},
    "autoattack": {"steps": 5, "targets": 2, "queries": 20},
    "fab": {"steps": 6},
    "fab-t": {"steps": 8, "targets": 2},
    "pgd": {"steps": 10},
    "square": {"queries": 80},
    "torchattacks:APGD": {"steps": 8},
    "foolbox:L2CarliniWagnerAttack": {"steps": 15, "binary_search_steps": 2},
    "foolbox:HopSkipJumpAttack": {"steps": 3, "initial_gradient_eval_steps": 20},
    "torchattacks:SPSA": {"nb_iter": 8, "nb_sample": 32},
}
RADIUS = {"linf": 0.04, "l2": 0.5, "l0": 0.3}
LIBRARIES = [
    ("torchattacks:APGD", "linf"),
    ("torchattacks:SPSA", "linf"),
    ("foolbox:L2CarliniWagnerAttack", "l2"),
    ("foolbox:HopSkipJumpAttack", "l2"),
    ("foolbox:LinfPGD", "linf"),
    ("foolbox:LinfDeepFoolAttack", "linf"),
]
CASES = [(name, norm) for name, entry in ATTACKS for norm in entry.norms] + LIBRARIES
FEW = 10


@pytest.fixture(scope="module")
def few() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = task(16, seed=3)
    with torch.no_grad():
        right = (network()(images).argmax(-1) == labels).all(0)
    return images[right][:FEW], labels[right][:FEW]


def noise(norm: str, epsilon: float, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    table = {"kind": "noise-control", "noises": ["salt-and-pepper"], "norm": norm, "epsilons": [epsilon]}
    (condition,) = NoiseControl.conditions("test", table)
    return NoiseControl(condition).on_float(images, context(network(), labels)).images


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_attack_stays_in_its_ball_beats_random_noise_and_depends_on_no_other_image(
    name: str, norm: str, few: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = few
    ids = [f"image-{i}" for i in range(len(labels))]
    epsilon = RADIUS[norm]
    table = {"attack": name, "norm": norm, "epsilons": [epsilon], "options": QUICK.get(name, {})}
    found = attack(network(), images, labels, ids, **table)

    assert found.images.shape == images.shape
    assert float(found.images.min()) >= 0
    assert float(found.images.max()) <= 1
    assert float(distance(found.images, images, norm).max()) <= epsilon + (1e-6 if norm == "l2" else 1.2e-7)
    torch.testing.assert_close(found.columns["distance"], distance(found.images, images, norm))

    broken = accuracy(network(), found.images, labels)
    assert broken < accuracy(network(), noise(norm, epsilon, images, labels), labels)
    assert broken == pytest.approx(1 - float(found.columns["success"].float().mean()))

    order = [5, 2, 9]
    again = attack(network(), images[order], labels[order], [ids[i] for i in order], **table)
    assert torch.equal(again.columns["success"], found.columns["success"][order])


def test_attacks_leave_mode_parameters_gradients_and_random_states_untouched(
    few: tuple[torch.Tensor, torch.Tensor],
) -> None:
    images, labels = few[0][:3], few[1][:3]
    model = Tiny()
    model.load_state_dict(network().state_dict())
    model.train()
    model.head.eval()
    model.encoder.weight.grad = torch.ones_like(model.encoder.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    original = images.clone()
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002  # the global one
    for name, norm in CASES:
        attack(model, images, labels, attack=name, norm=norm, epsilons=[RADIUS[norm]], options=QUICK.get(name, {}))
    assert model.training
    assert not model.head.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(model.encoder.weight.grad, torch.ones_like(model.encoder.weight))
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name != "encoder.weight")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(images, original)
    assert states[0] == random.getstate()
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(states[2], torch.get_rng_state())


def test_pgd_beats_fgsm_and_breaks_everything_at_a_large_epsilon() -> None:
    images, labels = task(192, seed=5)
    rates = {
        name: accuracy(network(), attack(network(), images, labels, attack=name, epsilons=[0.04]).images, labels)
        for name in ("fgsm", "pgd")
    }
    assert rates["pgd"] < rates["fgsm"]
    large = attack(network(), images, labels, attack="pgd", epsilons=[0.2]).images
    assert accuracy(network(), large, labels) == 0


def test_an_image_has_the_same_result_in_a_batch_of_any_size() -> None:
    images, labels = task(7, seed=6)
    ids = [f"image-{i}" for i in range(7)]
    together = attack(network(), images, labels, ids, attack="pgd", epsilons=[0.03])
    parts = [
        attack(network(), images[i : i + 1], labels[i : i + 1], ids[i : i + 1], attack="pgd", epsilons=[0.03])
        for i in range(7)
    ]
    assert torch.equal(together.columns["success"], torch.cat([part.columns["success"] for part in parts]))


def test_the_seed_and_the_id_choose_the_random_start() -> None:
    images, labels = task(4, seed=3)
    one = [attack(network(), images, labels, attack="pgd", epsilons=[0.03], seed=seed).images for seed in (0, 1)]
    assert not torch.equal(one[0], one[1])
    named = attack(network(), images, labels, ["a", "b", "c", "d"], attack="pgd", epsilons=[0.03]).images
    assert not torch.equal(one[0], named)


def test_only_images_that_are_right_at_the_judged_timestep_are_attacked() -> None:
    images, labels = task(64, seed=7)
    labels[:5] = (labels[:5] + 1) % 5
    for t in (0, TIMESTEPS):
        with torch.no_grad():
            right = network()(images, timesteps=t)[-1].argmax(-1) == labels
        found = attack(network(), images, labels, attack="fgsm", epsilons=[0.03], at=[t])
        assert torch.equal(found.columns["attacked"], right)
        assert torch.equal(found.images[~right], images[~right])
        assert not found.columns["success"][~right].any()


def test_readouts_over_all_timesteps_are_attacked_as_a_whole() -> None:
    images, labels = task(64, seed=7)
    with torch.no_grad():
        clean = network()(images)
    worst = attack(network(), images, labels, attack="pgd", epsilons=[0.03], at=["worst"], options={"restarts": 2})
    mean = attack(network(), images, labels, attack="pgd", epsilons=[0.03], at=["mean"])
    assert torch.equal(worst.columns["attacked"], (clean.argmax(-1) == labels).all(0))
    assert torch.equal(mean.columns["attacked"], clean.softmax(-1).mean(0).argmax(-1) == labels)
    with torch.no_grad():
        answers, averaged = network()(worst.images), network()(mean.images).softmax(-1).mean(0)
    fooled = (answers.argmax(-1) != labels).any(0) & worst.columns["attacked"]
    assert torch.equal(worst.columns["success"], fooled)
    assert torch.equal(mean.columns["success"], (averaged.argmax(-1) != labels) & mean.columns["attacked"])
    # the weakest timestep of each image is no harder to break than any one timestep
    last = attack(network(), images, labels, attack="pgd", epsilons=[0.03])
    with torch.no_grad():
        at_last = (network()(last.images)[-1].argmax(-1) != labels) & worst.columns["attacked"]
    assert int(fooled.sum()) >= int(at_last.sum())


@pytest.mark.parametrize("name", ["bim", "pgd", "mi-fgsm", "square", "apgd-ce", "torchattacks:SPSA", "foolbox:L2PGD"])
def test_targeted_attacks_reach_the_target(name: str) -> None:
    images, labels = task(6, seed=3)
    options = {"square": {"queries": 200}, "torchattacks:SPSA": {"nb_iter": 40, "nb_sample": 32, "lr": 0.05}}
    epsilon = 5.0 if name == "foolbox:L2PGD" else 0.25
    found = attack(
        network(), images, labels, attack=name, epsilons=[epsilon], target_offset=2, options=options.get(name, {})
    )
    with torch.no_grad():
        predictions = network()(found.images)[-1].argmax(-1)
    reached = predictions == (labels + 2) % 5
    assert torch.equal(found.columns["success"], reached & found.columns["attacked"])
    assert float(reached[found.columns["attacked"]].float().mean()) >= 0.8


def test_a_run_in_inference_mode_and_images_a_hair_outside_are_no_obstacle() -> None:
    images, labels = task(4, seed=3)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = -1e-6, 1 + 1e-6
    for name in ("pgd", "apgd-ce", "square"):
        with torch.inference_mode():
            found = attack(network(), images, labels, attack=name, epsilons=[0.03], options=QUICK.get(name, {}))
        assert not found.images.is_inference() or found.images.isfinite().all()
        assert float(distance(found.images, images, "linf").max()) <= 0.03 + 2e-6


def test_epsilon_zero_changes_nothing() -> None:
    images, labels = task(6, seed=3)
    for name in ("pgd", "square", "fab", "foolbox:LinfDeepFoolAttack"):
        found = attack(network(), images, labels, attack=name, epsilons=[0])
        assert torch.equal(found.images, images)
        assert not found.columns["success"].any()


def test_autoattack_is_at_least_as_strong_as_its_parts() -> None:
    images, labels = task(10, seed=8)
    options = {"steps": 5, "targets": 2, "queries": 20}
    whole = attack(network(), images, labels, attack="autoattack", epsilons=[0.025], options=options)
    part = attack(network(), images, labels, attack="apgd-ce", epsilons=[0.025], options={"steps": 5})
    assert (whole.columns["success"] | ~part.columns["success"]).all()
