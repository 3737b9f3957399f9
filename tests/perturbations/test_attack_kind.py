"""The kind `attack`: how a suite's table becomes conditions, and what it refuses in one line."""

from pathlib import Path

import pytest
import torch
from tiny_network import TIMESTEPS, Tiny, attack, context, network, task
from torch import Tensor

from pcbench.errors import UserError
from pcbench.keys import Condition
from pcbench.models.base import FeedforwardClassifier, Preprocessing, TemporalClassifier
from pcbench.models.resolve import load_model
from pcbench.perturbations.attack import AttackImages, _NotForThisModelError, _settle_source
from pcbench.perturbations.attack_probe import AttackProbe
from pcbench.suites.registry import load_suite

SMALL = Preprocessing((8, 8), (0.5,) * 3, (0.25,) * 3)


def settled(model: TemporalClassifier, timesteps: int = TIMESTEPS, **table: object) -> list[Condition]:
    conditions = AttackImages.conditions("test", {"kind": "attack", "epsilons": [0.1], **table})
    return [one for condition in conditions for one in AttackImages.for_model(condition, model, timesteps)]


def planned(model: TemporalClassifier, timesteps: int = TIMESTEPS, **table: object) -> list[tuple[str, int, float]]:
    found = settled(model, timesteps, **table)
    return [(str(one.params["readout"]), int(one.params["at"]), one.severity) for one in found]


def feedforward(classes: int = 5) -> FeedforwardClassifier:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, classes))
    return FeedforwardClassifier(network, classes, SMALL).eval()


def test_one_condition_for_each_epsilon_and_timestep() -> None:
    found = planned(network(), attack="pgd", epsilons=["8/255", 0.5], at=[0, "T"])
    assert found == [("timestep", t, epsilon) for epsilon in (8 / 255, 0.5) for t in (0, 3)]


@pytest.mark.parametrize(
    ("at", "readouts"),
    [
        ("all", [("timestep", t) for t in range(6)]),
        ("T", [("timestep", 5)]),
        ("T/2", [("timestep", 2)]),
        ("mean", [("mean", 5)]),
        ("worst", [("worst", 5)]),
        ("sum", [("sum", 5)]),
        (4, [("timestep", 4)]),
    ],
)
def test_timesteps_are_settled_when_the_last_is_known(at: str | int, readouts: list[tuple[str, int]]) -> None:
    assert [(name, t) for name, t, _ in planned(network(), 5, attack="fgsm", at=[at])] == readouts


@pytest.mark.parametrize("at", ["all", "T", 4, "mean", "worst", "sum"])
def test_every_timestep_of_a_feedforward_network_is_zero(at: str | int) -> None:
    assert planned(feedforward(), 0, attack="fgsm", at=[at]) == [("timestep", 0, 0.1)]


def test_what_decides_an_attack_is_typed_and_its_name_is_for_people() -> None:
    (condition,) = settled(network(), attack="pgd", norm="l2", loss="ce", options={"steps": 3}, role="converged")
    assert (condition.kind, condition.perturbation, condition.group) == ("attack", "pgd", "attack")
    params = dict(condition.params)
    assert params == {
        "attack": "pgd",
        "norm": "l2",
        "loss": "ce",
        "readout": "timestep",
        "at": 3,
        "objective": "readout",
        "gradient": "exact",
        "source": "",
        "source_weights": "",
        "knowledge": "white-box",
        "role": "converged",
        "judged": "aimed",
        "options": {
            "steps": 3,
            "restarts": 1,
            "targets": 0,
            "relative_step": 0.0,
            "momentum": 0.75,
            "random_start": True,
        },
        "target": None,
        "target_offset": None,
        "samples": 0,
        "share": 1.0,
        "correct_through": None,
    }
    (loss, other) = (settled(network(), attack="pgd", loss=name)[0] for name in ("margin", "ce"))
    assert loss.digest != other.digest, "two conditions of one name are two conditions"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"attack": "pdg"}, "no attack 'pdg'; did you mean pgd?"),
        ({"attack": "fgsm", "epsilons": [-0.1]}, "epsilon is -0.1"),
        ({"attack": "fgsm", "epsilons": ["9/8"]}, "epsilon is 1.125; images are in [0, 1]"),
        ({"attack": "pgd", "norm": "l2", "epsilons": [14.0]}, "from 0 to 13.8564"),
        ({"attack": "fgsm", "epsilons": ["1/0"]}, "neither a number nor a fraction"),
        ({"attack": "fgsm", "epsilons": []}, "epsilons"),
        ({"attack": "fgsm", "at": [-1]}, "attack timestep -1"),
        ({"attack": "fgsm", "at": [4]}, "the run ends at t = 3"),
        ({"attack": "fgsm", "at": ["last"]}, "known: timesteps (0, 1, ...), T, T/2"),
        ({"attack": "fgsm", "norm": "l1"}, "no norm 'l1'; it has linf, l2"),
        ({"attack": "fgsm", "target": 5}, "target class 5 is out of range; classes are 0 to 4"),
        ({"attack": "fgsm", "target_offset": 10}, "target_offset 10 is the label itself"),
        ({"attack": "fgsm", "target": 1, "target_offset": 1}, "not both"),
        ({"attack": "apgd-t", "target": 1}, "apgd-t cannot aim at a class"),
        ({"attack": "pgd", "options": {"step": 3}}, "no option 'step'; did you mean steps"),
        ({"attack": "pgd", "options": {"steps": -3}}, "must not be negative"),
        ({"attack": "pgd", "options": {"steps": 2.5}}, "steps is 2.5"),
        ({"attack": "pgd", "epsilon": 1}, "no key 'epsilon'; did you mean epsilons"),
        ({"attack": "pgd", "correct_through": 9}, "the run ends at t = 3"),
        ({"attack": "pgd", "source": "pvgg61"}, "did you mean pvgg16"),
        ({"attack": "pgd", "loss": "mse"}, "no loss 'mse'; it has margin, ce, dlr"),
        ({"attack": "autoattack", "loss": "ce"}, "it climbs a loss of its own"),
        ({"attack": "autoattack", "options": {"version": "plsu"}}, "version is 'plsu'; did you mean plus?"),
        ({"attack": "pgd", "gradient": "smoothed"}, "no gradient 'smoothed'; it has exact, truncated"),
        ({"attack": "pgd", "gradient": "smoothd"}, "did you mean smoothed?"),
        ({"attack": "pgd", "gradient": "last-2"}, "no gradient 'last-2'; it has exact, truncated"),
        ({"attack": "pgd", "objective": "states"}, "objective 'states' needs representations"),
        ({"attack": "square", "objective": "timesteps"}, "is for attacks of our own that take gradients"),
        ({"attack": "torchattack:PGD"}, "no library of attacks 'torchattack'; did you mean torchattacks?"),
        ({"attack": "torchattacks:PDG"}, "torchattacks has no attack 'PDG'; did you mean PGD"),
        ({"attack": "foolbox:LinfPDG"}, "foolbox has no attack 'LinfPDG'; did you mean LinfPGD"),
        ({"attack": "torchattacks:PGD", "options": {"step": 3}}, "has no option 'step'; did you mean steps"),
    ],
)
def test_bad_tables_are_refused_in_one_line(table: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        planned(network(), **table)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_attacks_that_need_more_classes_are_refused() -> None:
    for name, classes in (("apgd-dlr", 2), ("apgd-t", 3)):
        with pytest.raises(UserError, match=f"needs {classes + 1} classes; there are {classes}"):
            planned(feedforward(classes), attack=name)


def test_a_model_without_gradients_is_refused_for_gradient_attacks_alone() -> None:
    class Blind(TemporalClassifier):
        def rollout(self, x: Tensor, timesteps: int) -> Tensor:
            return x.detach().flatten(1)[:, :5].expand(timesteps + 1, -1, -1)

    model = Blind(5, SMALL, 2).eval()
    with pytest.raises(UserError, match="gives no gradients; attacks that need none: square"):
        planned(model, attack="pgd")
    assert planned(model, attack="square") == [("timestep", 3, 0.1)]


def test_the_run_chooses_the_gradient_and_a_comparison_keeps_its_own() -> None:
    class Exact(Tiny):
        gradients = ("exact",)

    table: dict[str, object] = {"kind": "attack", "attack": "fgsm", "epsilons": [0.1]}
    (condition,) = AttackImages.conditions("test", table)
    condition.params["attack_gradient"] = "truncated"  # type: ignore[index]
    assert AttackImages.for_model(condition, network(), 3)
    with pytest.raises(UserError, match="no gradient 'truncated'; it has exact"):
        AttackImages.for_model(condition, Exact().eval(), 3)
    assert AttackImages.for_model(condition, feedforward(), 0)
    (comparison,) = AttackImages.conditions("test", {**table, "gradient": "truncated", "role": "comparison"})
    assert AttackImages.for_model(comparison, Exact().eval(), 3) == []


def test_a_truncated_run_has_the_exact_gradient_as_its_comparison() -> None:
    table: dict[str, object] = {"kind": "attack", "attack": "fgsm", "epsilons": [0.1], "role": "comparison"}
    (planned,) = AttackImages.conditions("test", {**table, "gradient": "truncated"})
    planned.params["attack_gradient"] = "truncated"  # type: ignore[index]
    (condition,) = AttackImages.for_model(planned, network(), 3)
    assert condition.params["gradient"] == "exact"
    assert AttackImages.for_model(planned, feedforward(), 0) == []


def test_truncated_and_exact_gradients_give_different_attacks() -> None:
    images, labels = task(24, seed=3)
    exact = attack(network(), images, labels, attack="pgd", epsilons=[0.03])
    truncated = attack(network(), images, labels, attack="pgd", epsilons=[0.03], gradient="truncated")
    assert not torch.equal(exact.images, truncated.images)
    assert int(exact.columns["success"].sum()) >= int(truncated.columns["success"].sum())


def test_a_share_of_the_images_is_chosen_by_id() -> None:
    images, labels = task(40, seed=3)
    ids = [f"image-{i}" for i in range(40)]
    some = attack(network(), images, labels, ids, attack="fgsm", epsilons=[0.03], share=0.3).columns["attacked"]
    everything = attack(network(), images, labels, ids, attack="fgsm", epsilons=[0.03]).columns["attacked"]
    assert 0 < int(some.sum()) < 0.6 * int(everything.sum())
    half = attack(network(), images[20:], labels[20:], ids[20:], attack="fgsm", epsilons=[0.03], share=0.3)
    assert torch.equal(half.columns["attacked"], some[20:])


def test_only_images_that_stay_correct_are_attacked_when_asked() -> None:
    images, labels = task(200, seed=11)
    found = attack(network(), images, labels, attack="fgsm", epsilons=[0.01], at=[0], correct_through=3)
    with torch.no_grad():
        assert torch.equal(found.columns["attacked"], (network()(images).argmax(-1) == labels).all(0))


def test_correct_through_zero_is_the_feedforward_pass_and_not_the_last_timestep() -> None:
    images, labels = task(200, seed=11)
    found = attack(network(), images, labels, attack="fgsm", epsilons=[0.01], at=[3], correct_through=0)
    with torch.no_grad():
        right = network()(images).argmax(-1) == labels
    assert torch.equal(found.columns["attacked"], right[0])
    assert not torch.equal(right[0], right.all(0))


def test_transferred_attacks_are_crafted_on_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Tiny()
    other.load_state_dict(network().state_dict())
    other.eval().requires_grad_(False)
    with torch.no_grad():
        other.head.weight.mul_(-1)
    monkeypatch.setattr(
        "pcbench.perturbations.attack._settle_source",
        lambda params, model, where: {"source": params["source"], "source_weights": "tag"},
    )
    known = {("other", "tag", "cpu"): other}
    monkeypatch.setattr("pcbench.models.resolve.load_model", lambda name, weights, device: known[name, weights, device])
    images, labels = task(24, seed=3)
    found = attack(network(), images, labels, attack="fgsm", epsilons=[0.03], at=[1], source="other")
    with torch.no_grad():
        seen = (network()(images).argmax(-1) == labels).any(0)
    assert torch.equal(found.columns["attacked"], seen)
    own = attack(other, images, labels, attack="fgsm", epsilons=[0.03], at=[1], judged="everywhere")
    both = own.columns["attacked"] & seen
    assert torch.equal(found.images[both], own.images[both])


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        ("pvgg16-cifar", "cifar10-half", ("vgg16-cifar", "cifar10-half")),
        ("pvgg16-cifar", "random", ("vgg16-cifar", "random")),
        ("convrnn-rgc-shallow-cifar", "cifar10-half", ("convrnn-feedforward-shallow-cifar", "cifar10-matched")),
    ],
)
def test_a_baseline_has_the_model_s_weights_or_those_at_hand(
    name: str, weights: str, expected: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path))
    found = _settle_source({"source": "baseline"}, load_model(name, weights), "here")
    assert (found["source"], found["source_weights"]) == expected


def test_evidence_from_a_baseline_that_is_not_at_hand_is_left_out_and_an_attack_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path))
    model = load_model("pvgg16-cifar", "random")
    monkeypatch.setattr("pcbench.models.resolve.Resolved.baseline", None)
    with pytest.raises(_NotForThisModelError):
        _settle_source({"source": "baseline", "role": "weaker"}, model, "here")
    with pytest.raises(UserError, match="has no weights at hand; name another source"):
        _settle_source({"source": "baseline", "role": "attack"}, model, "here")


def test_a_transfer_is_never_from_the_network_itself() -> None:
    model = load_model("vgg16-cifar")
    for source in ("baseline", "vgg16-cifar"):
        with pytest.raises(_NotForThisModelError):
            _settle_source({"source": source, "attack_source": ""}, model, "here")
    assert settled(model, 0, attack="fgsm", source="baseline") == []


@pytest.mark.parametrize(
    "name",
    [
        "adversarial",
        "adversarial-dynamics",
        "adversarial-thorough",
        "adversarial-cifar10-linf",
        "adversarial-cifar10-l2",
        "adversarial-imagenet-linf",
        "adversarial-predify2021",
        "transfer",
    ],
)
def test_the_suites_of_attacks_are_read(name: str) -> None:
    suite = load_suite(name)
    assert suite.conditions[0].kind == "clean"
    assert any(condition.kind == "attack" for condition in suite.conditions)


def test_the_papers_protocol_is_as_published() -> None:
    suite = load_suite("adversarial-predify2021")
    attacks = [condition for condition in suite.conditions if condition.kind == "attack"]
    assert sorted({condition.severity for condition in attacks}) == [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert {condition.params["at"] for condition in attacks} == {0, 2, 4, 6, 8}
    params = attacks[0].params
    assert params["options"] == {"steps": 100, "relative_step": 0.025, "momentum": 0.0, "random_start": True}
    assert (params["attack"], params["norm"], params["loss"], params["target_offset"]) == ("bim", "linf", "ce", 800)
    assert params["correct_through"] == 9


def probe_columns(model: TemporalClassifier, t: int) -> dict[str, Tensor]:
    images, labels = task(8, seed=3)
    (condition,) = AttackProbe.conditions("test", {"kind": "attack-probe", "at": [t]})
    (settled,) = AttackProbe.for_model(condition, model, TIMESTEPS)
    found = AttackProbe(settled).on_float(images, context(model, labels))
    assert found.images is images
    return dict(found.columns)


def test_probes_find_nothing_in_an_honest_network_and_the_mask_in_a_masked_one() -> None:
    honest, masked = probe_columns(network(), 3), probe_columns(network(masked=True), 3)
    for flag in ("randomised", "softmax", "zero_gradient", "optimises"):
        assert not honest[f"probe_{flag}"].any()
    assert float(honest["probe_gradient_error"].max()) < 0.01
    assert float(masked["probe_gradient_error"].min()) > 0.3
    assert float(probe_columns(network(masked=True), 0)["probe_gradient_error"].max()) < 0.01
    assert float(honest["probe_truncation_cosine"].max()) < 1


def test_probes_raise_each_flag_for_the_model_that_deserves_it() -> None:
    class Odd(Tiny):
        def rollout(self, x: Tensor, timesteps: int) -> Tensor:
            return self.answer(super().rollout(x, timesteps), x)

    def noisy(logits: Tensor, x: Tensor) -> Tensor:
        return logits + torch.randn_like(logits)

    def probabilities(logits: Tensor, x: Tensor) -> Tensor:
        return logits.softmax(-1)

    def saturated(logits: Tensor, x: Tensor) -> Tensor:
        return logits.detach() + 0 * x.sum()

    def optimising(logits: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            probe = torch.ones(1, requires_grad=True)
            return logits * torch.autograd.grad((probe**2).sum(), probe)[0]

    for flag, answer in (
        ("randomised", noisy),
        ("softmax", probabilities),
        ("zero_gradient", saturated),
        ("optimises", optimising),
    ):
        model = Odd().eval()
        model.load_state_dict(network().state_dict())
        model.answer = answer
        assert probe_columns(model, 3)[f"probe_{flag}"].all(), flag
