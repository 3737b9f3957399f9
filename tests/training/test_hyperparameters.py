from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcbench.errors import UserError
from pcbench.training.distributed import Processes
from pcbench.training.folder import Row, TrainingFolder
from pcbench.training.hyperparameters import Shares, Tuning, TuningRecipe, options_of
from pcbench.training.loop import Progress
from tests.training.tiny import Pictures, tiny_model

ALONE = Processes(0, 1, torch.device("cpu"))
RECIPE = TuningRecipe(epochs=2, batch_size=4, timesteps=2, sigma=(0.5, 1.0), held_out=0.5)


def tuning(recipe: TuningRecipe = RECIPE) -> Tuning:
    return Tuning(tiny_model(), Pictures(), recipe, ALONE)


def shown(rows: list[Row]) -> list[str]:
    return [repr(row) for row in rows]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4))
def test_shares_start_where_they_are_asked_to_and_sum_to_one(pairs: list[tuple[float, float]]) -> None:
    values = [{"feedforward": b, "feedback": (1 - b) * part, "pc": 0.01} for b, part in pairs]
    shares = Shares(values)
    found = shares.shares().detach()
    torch.testing.assert_close(found.sum(1), torch.ones(len(values)))
    assert bool((found >= 0).all())
    for value, row in zip(values[:-1], found[:-1], strict=True):
        assert float(row[0]) == pytest.approx(value["feedforward"], abs=3e-4)
        assert float(row[1]) == pytest.approx(value["feedback"], abs=3e-4)
    assert float(found[-1, 1]) == 0.0


@pytest.mark.parametrize("raw", [-1e4, -200.0, 0.0, 200.0])
def test_values_and_gradients_are_finite_everywhere(raw: float) -> None:
    shares = Shares([{"feedforward": 0.5, "feedback": 0.5, "pc": 0.0}, {"feedforward": 1.0, "feedback": 0.0, "pc": 0}])
    shares.raw.data[0] = torch.tensor([raw, -raw, raw])
    found = shares.shares()
    (found * torch.arange(6.0).view(2, 3)).sum().backward()
    assert bool(found.isfinite().all())
    assert shares.raw.grad is not None
    assert bool(shares.raw.grad.isfinite().all())


def test_tuning_lowers_the_loss_on_its_own_noise() -> None:
    run = tuning(replace(RECIPE, epochs=8, learning_rate=0.1, pc_learning_rate=0.05))
    rows = run.run()
    losses = [float(row["tuning_loss"]) for row in rows[1:]]
    assert min(losses[-2:]) < losses[0]
    before, after = rows[0], rows[-1]
    assert any(before[name] != after[name] for name in ("feedforward_1", "feedback_1"))
    assert before["pc_1"] != after["pc_1"]


def test_the_loss_is_the_cross_entropy_summed_over_timesteps() -> None:
    run = tuning()
    x, labels = torch.randn(3, 3, 16, 16), torch.tensor([0, 1, 4])
    loss, logits = run._loss(x, labels)
    each = [torch.nn.functional.cross_entropy(logits[t], labels) for t in range(3)]
    torch.testing.assert_close(loss, torch.stack(each).sum())


def test_exact_and_truncated_gradients_differ_and_both_are_finite() -> None:
    found = {}
    for gradient in ("exact", "truncated"):
        run = tuning(replace(RECIPE, gradient=gradient))  # type: ignore[arg-type]
        run.shares.pc.data.fill_(5.0)
        images = torch.stack([run.views[(0, n)][0] for n in range(4)])
        run._train_step((images, torch.tensor([0, 1, 2, 3]), ["a", "b", "c", "d"]))
        assert run.shares.raw.grad is not None
        found[gradient] = run.shares.raw.grad.clone()
        assert bool(found[gradient].isfinite().all())
        assert run.model.gradient == "exact"
    assert not torch.equal(found["exact"], found["truncated"])


def test_held_out_images_are_never_tuned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    run = tuning()
    seen: set[str] = set()
    original = run._train_step

    def watch(batch: tuple[torch.Tensor, torch.Tensor, list[str]]) -> torch.Tensor:
        seen.update(batch[2])
        return original(batch)

    monkeypatch.setattr(run, "_train_step", watch)
    run.run()
    assert seen == {run.images.ids[n] for n in run.tuned}
    assert not seen & {run.images.ids[n] for n in run.reported}


@pytest.mark.parametrize("stop_at", [1, 4])
def test_an_interrupted_tuning_ends_as_an_undisturbed_one(tmp_path: Path, stop_at: int) -> None:
    expected = tuning().run()

    def interrupt(at: Progress) -> None:
        if at.step == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuning().run(TrainingFolder(tmp_path / "t", {}), interrupt)
    assert shown(tuning().run(TrainingFolder(tmp_path / "t", {}))) == shown(expected)


def test_the_network_ends_with_plain_numbers_that_load_again() -> None:
    run = tuning()
    run.run()
    for values, found in zip(run.model.network.hyperparameters, run.shares.values(), strict=True):
        assert values.values() == pytest.approx(found)
        assert isinstance(values.feedforward, float)
    options = dict(options_of(run.shares.values()))
    assert [float(part) for part in options["pc"].split(",")] == pytest.approx(run.shares.pc.tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timesteps": 0}, "timesteps is 0"),
        ({"sigma": ()}, "sigma is"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"batch_size": 13}, "12 tuning images do not fill a batch of 13"),
    ],
)
def test_values_that_make_no_sense_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tuning(replace(RECIPE, **change))  # type: ignore[arg-type]


def test_only_the_named_pcoders_are_tuned() -> None:
    run = tuning(replace(RECIPE, pcoders=(2,), learning_rate=0.1, pc_learning_rate=0.05))
    before = run.shares.values()
    run.run()
    after = run.shares.values()
    assert after[0] == pytest.approx(before[0])
    assert after[1] != before[1]
