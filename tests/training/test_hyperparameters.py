from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcbench.errors import UserError
from pcbench.training.distributed import Processes
from pcbench.training.folder import Row, TrainingFolder
from pcbench.training.hyperparameters import Tuning, TuningRecipe, options_of, project
from pcbench.training.loop import Progress
from tests.training.tiny import Pictures, tiny_model

ALONE = Processes(0, 1, torch.device("cpu"))
RECIPE = TuningRecipe(epochs=2, batch_size=4, timesteps=2, sigma=(0.5, 1.0), held_out=0.5)


def tuning(recipe: TuningRecipe = RECIPE) -> Tuning:
    return Tuning(tiny_model(), Pictures(), recipe, ALONE)


def shown(rows: list[Row]) -> list[str]:
    return [repr(row) for row in rows]


@settings(max_examples=100, deadline=None)
@given(st.floats(-2, 3), st.floats(-2, 3))
def test_weights_go_to_the_nearest_that_leave_memory(forward: float, back: float) -> None:
    found = torch.tensor(forward), torch.tensor(back)
    project(*found)
    b, feedback = (float(value) for value in found)
    assert min(b, feedback) >= 0
    assert b + feedback <= 1 + 1e-6
    grid = [(i / 50, j / 50) for i in range(51) for j in range(51 - i)]
    nearest = min((forward - i) ** 2 + (back - j) ** 2 for i, j in grid)
    assert (forward - b) ** 2 + (back - feedback) ** 2 <= nearest + 1e-5


def test_the_last_pcoder_has_no_feedback_to_tune() -> None:
    run = tuning()
    last = run.model.network.pcoders[-1]
    assert not last.feedback.requires_grad
    assert last.feedforward.requires_grad
    value = torch.tensor(1.5)
    project(value, None)
    assert float(value) == 1.0


def test_a_weight_that_starts_at_zero_can_leave_it() -> None:
    run = tuning(replace(RECIPE, epochs=1, learning_rate=0.1, pc_learning_rate=0.05))
    run.model.network.hyperparameters = {"feedforward": 0.5, "feedback": 0.0, "pc": 0.0}
    after = run.run()[-1]
    assert after["feedback_1"] != 0.0 or after["feedforward_1"] != 0.5
    assert after["pc_1"] != 0.0


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
        for values in run.model.network.hyperparameters:
            values.pc = 5.0
        images = torch.stack([run.views[(0, n)][0] for n in range(4)])
        run._train_step((images, torch.tensor([0, 1, 2, 3]), ["a", "b", "c", "d"]))
        found[gradient] = torch.stack([torch.as_tensor(parameter.grad) for parameter in run.parameters])
        assert bool(found[gradient].isfinite().all())
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


def test_the_network_ends_with_values_that_load_again() -> None:
    run = tuning()
    rows = run.run()
    assert not any(parameter.requires_grad for parameter in run.model.parameters())
    values = [row.values() for row in run.model.network.hyperparameters]
    assert [value["pc"] for value in values] == [rows[-1]["pc_1"], rows[-1]["pc_2"]]
    options = dict(options_of(values))
    assert [float(part) for part in options["pc"].split(",")] == pytest.approx([v["pc"] for v in values], rel=1e-5)


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
    before = [values.values() for values in run.model.network.hyperparameters]
    run.run()
    after = [values.values() for values in run.model.network.hyperparameters]
    assert after[0] == before[0]
    assert after[1] != before[1]
