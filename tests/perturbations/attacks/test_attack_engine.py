"""What the engine owns: results that depend on nothing but the image, memory, dropping, and the strongest image."""

import pytest
import torch
from tiny_network import CLASSES, TIMESTEPS, Tiny, attack, context, network, task
from torch import Tensor

from pcbench.errors import RunError
from pcbench.perturbations.attack import AttackImages
from pcbench.perturbations.attacks.attack import ATTACKS
from pcbench.perturbations.attacks.ball import distance
from pcbench.perturbations.attacks.engine import Ball, Found, Plan
from pcbench.perturbations.attacks.losses import LOSSES
from pcbench.perturbations.attacks.victim import Aim, Victim

QUICK: dict[str, dict[str, object]] = {
    "apgd-ce": {"steps": 10},
    "apgd-t": {"steps": 8, "targets": 2},
    "autoattack": {"steps": 5, "targets": 2, "queries": 20},
    "bim": {"steps": 5},
    "fab-t": {"steps": 6, "targets": 2},
    "mi-fgsm": {"steps": 5},
    "pgd": {"steps": 6, "restarts": 2, "targets": 2},
    "square": {"queries": 20, "restarts": 2},
}


def plan_of(
    images: Tensor, labels: Tensor, *, width: int = 16, stop: bool = True, limit: int = 16, epsilon: float = 0.025
) -> Plan:
    victim = Victim(network(), Aim("timestep", TIMESTEPS), LOSSES["margin"], limit=limit)
    ids = [f"image-{i}" for i in range(len(labels))]
    return Plan(victim, images, labels, torch.full_like(labels, -1), ids, 0, Ball("linf", epsilon), stop, width, "x")


def found(name: str, plan: Plan) -> Found:
    return ATTACKS[name].run(plan, ATTACKS[name].with_options(QUICK[name]))


@pytest.fixture(scope="module")
def many() -> tuple[Tensor, Tensor]:
    images, labels = task(64, seed=3)
    with torch.no_grad():
        right = network()(images)[-1].argmax(-1) == labels
    return images[right][:24], labels[right][:24]


@pytest.mark.parametrize("name", sorted(QUICK))
def test_results_do_not_depend_on_order_or_on_the_other_images(name: str, many: tuple[Tensor, Tensor]) -> None:
    images, labels = many
    # Every image goes all the way, so that the batch keeps one shape: then it is bit for bit.
    whole = found(name, plan_of(images[:16], labels[:16], stop=False))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    plan = plan_of(images[:16], labels[:16], stop=False).of(order)
    again = found(name, plan)
    assert torch.equal(again.images, whole.images[order])
    assert torch.equal(again.gap, whole.gap[order])


@pytest.mark.parametrize("name", sorted(QUICK))
def test_predictions_are_the_same_at_every_batch_size_and_with_dropping(name: str, many: tuple[Tensor, Tensor]) -> None:
    images, labels = many
    expected = found(name, plan_of(images, labels, width=64))
    for width, limit in ((7, 16), (16, 5)):
        other = found(name, plan_of(images, labels, width=width, limit=limit))
        assert torch.equal(other.success, expected.success), (width, limit)
    # An attack that goes all the way breaks what one that stops breaks.
    assert torch.equal(found(name, plan_of(images, labels, stop=False)).success, expected.success)


def test_dropping_spends_passes_on_what_is_left_alone(many: tuple[Tensor, Tensor]) -> None:
    images, labels = many
    plans = [plan_of(images, labels, stop=stop, epsilon=0.05) for stop in (True, False)]
    dropped, whole = (found("pgd", plan) for plan in plans)
    assert plans[0].victim.passes < 0.5 * plans[1].victim.passes
    assert (dropped.asked <= whole.asked).all()
    assert int(whole.asked[0]) == 2 * 3 * 7  # two restarts of three starts, of six steps and a last look


@pytest.mark.parametrize("name", sorted(QUICK))
def test_an_attack_that_fails_leaves_the_strongest_image_and_never_the_clean_one(
    name: str, many: tuple[Tensor, Tensor]
) -> None:
    images, labels = many
    for stop in (True, False):
        result = found(name, plan_of(images, labels, stop=stop, epsilon=0.004))
        failed = ~result.success
        assert failed.sum() > 12
        assert (distance(result.images, images, "linf")[failed] > 0.001).all()
        with torch.no_grad():
            clean, there = network()(images)[-1], network()(result.images)[-1]

        def lead(logits: Tensor) -> Tensor:
            others = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)
            return others - logits.gather(1, labels.unsqueeze(1)).squeeze(1)

        assert (lead(there) > lead(clean))[failed].float().mean() > 0.9
        torch.testing.assert_close(lead(there), result.gap, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(QUICK))
def test_every_image_is_in_its_ball_and_in_range(name: str, many: tuple[Tensor, Tensor]) -> None:
    images, labels = many
    for norm, epsilon in (("linf", 0.03), ("l2", 0.4)):
        for stop in (True, False):
            plan = plan_of(images[:12], labels[:12], stop=stop)
            plan.ball = Ball(norm, epsilon)
            result = found(name, plan).images
            assert float(result.min()) >= 0
            assert float(result.max()) <= 1
            assert float(distance(result, images[:12], norm).max()) <= epsilon * (1 + 1e-6) + 1.2e-7


class Cramped(Tiny):
    """Has memory for so many images at once."""

    room = 16
    asked = 0

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        if x.requires_grad and len(x) > self.room and timesteps > 0:
            raise torch.OutOfMemoryError("no more")
        self.asked = max(self.asked, len(x))
        return super().rollout(x, timesteps)


def cramped(room: int) -> Cramped:
    model = Cramped()
    model.load_state_dict(network().state_dict())
    model.room = room
    return model.eval()


@pytest.mark.parametrize("room", [16, 5, 3, 2, 1])
def test_when_memory_runs_out_smaller_pieces_are_tried_and_answers_stay(room: int, many: tuple[Tensor, Tensor]) -> None:
    images, labels = many[0][:21], many[1][:21]
    table: dict[str, object] = {"attack": "pgd", "epsilons": [0.03], "options": {"steps": 6}}
    expected = attack(network(), images, labels, **table).columns["success"]
    assert torch.equal(attack(cramped(room), images, labels, **table).columns["success"], expected)


def test_not_even_one_image_is_said_in_one_line(many: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(RunError, match="no memory for an attack on a single image at T = 3"):
        attack(cramped(0), *many, attack="pgd", epsilons=[0.03])


def test_an_error_that_is_not_about_memory_is_not_swallowed(many: tuple[Tensor, Tensor]) -> None:
    class Broken(Tiny):
        def rollout(self, x: Tensor, timesteps: int) -> Tensor:
            if len(x) > 1:  # planning asks about one image
                raise RuntimeError("shapes do not match")
            return super().rollout(x, timesteps)

    with pytest.raises(RuntimeError, match="shapes do not match"):
        attack(Broken().eval(), *many, attack="pgd", epsilons=[0.03])


class Noisy(Tiny):
    """Draws at random in every pass, from the global generator."""

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        logits = super().rollout(x, timesteps)
        return logits + 0.5 * torch.randn(logits.shape)


def test_a_random_network_is_averaged_over_draws_that_follow_from_the_image(many: tuple[Tensor, Tensor]) -> None:
    model = Noisy()
    model.load_state_dict(network().state_dict())
    model.eval()
    images, labels = many[0][:8], many[1][:8]
    table: dict[str, object] = {"attack": "pgd", "epsilons": [0.03], "options": {"steps": 4}, "samples": 4}
    ids = [f"image-{i}" for i in range(8)]
    whole = attack(model, images, labels, ids, **table)
    part = attack(model, images[3:5], labels[3:5], ids[3:5], **table)
    assert torch.equal(part.images, whole.images[3:5])


def test_targets_are_the_likeliest_wrong_classes(many: tuple[Tensor, Tensor]) -> None:
    from pcbench.perturbations.attacks.engine import _ranked
    from pcbench.perturbations.attacks.pgd import GradientSteps

    images, labels = many
    ranked = _ranked(GradientSteps(1, targets=9), plan_of(images, labels))
    assert ranked is not None
    assert ranked.shape == (len(labels), CLASSES - 1)
    with torch.no_grad():
        logits = network()(images)[-1]
    logits[torch.arange(len(labels)), labels] = -torch.inf
    assert torch.equal(ranked, logits.argsort(1, descending=True)[:, : CLASSES - 1])


def test_workers_get_the_same_attack(many: tuple[Tensor, Tensor]) -> None:
    import pickle

    (planned,) = AttackImages.conditions("test", {"kind": "attack", "attack": "pgd", "epsilons": [0.03]})
    (condition,) = AttackImages.for_model(planned, network(), TIMESTEPS)
    sent = pickle.loads(pickle.dumps(AttackImages(condition)))
    here = AttackImages(condition).on_float(many[0], context(network(), many[1]))
    there = sent.on_float(many[0], context(network(), many[1]))
    assert torch.equal(here.images, there.images)
