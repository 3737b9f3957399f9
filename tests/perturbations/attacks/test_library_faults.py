"""Faults of the attack libraries that the adapters work around: when one is mended, its test says so."""

import foolbox
import pytest
import torch
import torchattacks
from tiny_network import Tiny, attack, network, task
from torch import Tensor, nn


class Wrapped(nn.Module):
    """An ordinary wrapper: its own flag says training although the model inside is in eval mode."""

    def __init__(self, model: Tiny) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)[-1]


def fresh() -> Tiny:
    model = Tiny()
    model.load_state_dict(network().state_dict())
    return model.eval()


def test_torchattacks_trusts_a_stale_flag_and_the_adapter_does_not() -> None:
    images, labels = task(2, seed=3)
    model = fresh()
    torchattacks.FGSM(Wrapped(model), eps=0.01)(images, labels)
    assert model.training
    model = fresh()
    attack(model, images, labels, attack="torchattacks:APGD", epsilons=[0.01], options={"steps": 2})
    assert not any(module.training for module in model.modules())


def test_torchattacks_seeds_the_global_random_state_and_the_adapter_restores_it() -> None:
    images, labels = task(2, seed=3)
    model = fresh()
    before = torch.get_rng_state()
    torchattacks.APGD(Wrapped(model), eps=0.01, steps=1)(images, labels)
    assert not torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    attack(model, images, labels, attack="torchattacks:APGD", epsilons=[0.01], options={"steps": 1})
    assert torch.equal(before, torch.get_rng_state())


def test_torchattacks_autoattack_is_not_the_official_one_and_ours_asks_for_its_settings() -> None:
    from pcbench.perturbations.attacks.attack import ATTACKS

    theirs = torchattacks.AutoAttack(Wrapped(fresh()), n_classes=1000)
    first, targeted, boundary, square = theirs._autoattack.attacks
    assert (first.steps, targeted.steps, boundary.steps, square.n_queries) == (10, 10, 10, 5000)
    assert targeted.n_target_classes == 999
    assert ATTACKS["autoattack"].options == {"version": "standard", "steps": 100, "targets": 9, "queries": 5000}


def test_spsa_ignores_its_targets_and_the_adapter_hands_them_over() -> None:
    images, labels = task(4, seed=3)
    targets = (labels + 2) % 5
    theirs = torchattacks.SPSA(Wrapped(fresh()), eps=0.3, nb_iter=30, lr=0.05)
    theirs.set_mode_targeted_by_function(lambda images, labels: targets, quiet=True)
    with torch.no_grad():
        reached = network()(theirs(images, labels))[-1].argmax(-1) == targets
    assert not reached.any()
    table: dict[str, object] = {"epsilons": [0.3], "options": {"nb_iter": 30, "lr": 0.05}, "target_offset": 2}
    ours = attack(fresh(), images, labels, attack="torchattacks:SPSA", **table)
    assert torch.equal(ours.columns["success"], ours.columns["attacked"])


def test_foolbox_refuses_images_a_hair_outside_and_the_adapter_clamps() -> None:
    images, labels = task(2, seed=3)
    images[:, 0, 0, 0] = 1 + 1e-6
    model = foolbox.PyTorchModel(Wrapped(fresh()).eval(), bounds=(0, 1), device="cpu")
    with pytest.raises(AssertionError):
        foolbox.attacks.LinfPGD(steps=2)(model, images, labels, epsilons=0.01)
    found = attack(fresh(), images, labels, attack="foolbox:LinfPGD", epsilons=[0.01], options={"steps": 2})
    assert found.columns["attacked"].any()
    assert float(found.images[found.columns["attacked"]].max()) <= 1


def test_foolbox_draws_random_starts_for_the_whole_batch_and_the_adapter_image_by_image() -> None:
    images, labels = task(3, seed=3)
    model = foolbox.PyTorchModel(fresh().at(3), bounds=(0, 1), device="cpu")
    starts = []
    for rows in ([0, 1, 2], [2]):
        torch.manual_seed(0)
        _, clipped, _ = foolbox.attacks.LinfPGD(steps=0)(model, images[rows], labels[rows], epsilons=0.05)
        starts.append(clipped[-1])
    assert not torch.equal(*starts)
    ids = ["a", "b", "c"]
    table: dict[str, object] = {"attack": "foolbox:LinfPGD", "epsilons": [0.05], "options": {"steps": 1}}
    whole = attack(fresh(), images, labels, ids, **table).images
    alone = attack(fresh(), images[2:], labels[2:], ids[2:], **table).images
    assert torch.equal(whole[2], alone[0])
