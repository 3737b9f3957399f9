"""The search for hyperparameters: what is judged, what is drawn, and that an interruption changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcbench.errors import UserError
from pcbench.randomness import normal_like
from pcbench.training.batches import split
from pcbench.training.distributed import Processes
from pcbench.training.folder import Row, TrainingFolder
from pcbench.training.loop import Progress
from pcbench.training.search import Judgement, Search, SearchRecipe
from pcbench.training.tuning_images import tuning_images
from tests.training.tiny import Pictures, tiny_model

ALONE = Processes(0, 1, torch.device("cpu"))
RECIPE = SearchRecipe(trials=6, batch_size=5, timesteps=2, sigma=(0.0, 0.7), limit=8)


def search(recipe: SearchRecipe = RECIPE) -> Search:
    return Search(tiny_model(), Pictures(), recipe, ALONE)


def without_speed(rows: list[Row]) -> list[str]:
    return [repr({**row, "images_per_second": 0}) for row in rows]


def test_the_judgement_is_accuracy_and_cross_entropy_image_by_image() -> None:
    run = search()
    found = run.judge(run.tuned)
    accuracy, loss = torch.zeros(2, 3), torch.zeros(2, 3)
    for position in run.tuned:
        image, label, _ = run.views[(-1, position)]
        for row, sigma in enumerate(RECIPE.sigma):
            x = (image[None] - 0.5) / 0.25
            x = x + sigma * normal_like(x, 0, [run.images.ids[position]], "search", sigma)
            with torch.no_grad():
                logits = run.model.rollout(x, 2)[:, 0]
            accuracy[row] += (logits.argmax(1) == label).float() / len(run.tuned)
            loss[row] -= logits.log_softmax(1)[:, label] / len(run.tuned)
    torch.testing.assert_close(found.accuracy.float(), accuracy)
    torch.testing.assert_close(found.loss.float(), loss, rtol=1e-4, atol=1e-5)


def test_the_best_timestep_is_the_earliest_of_the_best_after_the_feedforward_pass() -> None:
    accuracy = torch.tensor([[0.9, 0.5, 0.6, 0.6], [0.9, 0.4, 0.5, 0.5]])
    loss = torch.tensor([[0.0, 3.0, 2.0, 2.0], [0.0, 1.0, 2.0, 2.0]])
    assert Judgement(accuracy, loss).best("accuracy")[1] == 2
    assert Judgement(accuracy, loss).best("cross-entropy")[1] == 2  # the same loss as at t = 1, but more accurate
    assert Judgement(accuracy, loss).best("accuracy")[0] == pytest.approx((0.55, -2.0))


def test_what_is_kept_is_the_best_of_what_was_tried() -> None:
    run = search(replace(RECIPE, trials=12, objective="cross-entropy"))
    rows = run.run()
    best = [min(float(row[f"loss_{t}"]) for t in (1, 2)) for row in rows]
    kept = [bool(row["better"]) for row in rows]
    assert kept == [score < min([float("inf"), *best[:n]]) for n, score in enumerate(best)]
    assert any(kept[1:])
    again = run.judge(run.tuned).loss.mean(0)
    assert float(again[run.timesteps]) == pytest.approx(min(best))
    assert [values.values() for values in run.model.network.hyperparameters] == run.best


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 10**6), st.integers(0, 100))
def test_what_is_drawn_can_be_used_and_changes_one_pcoder(trial: int, seed: int) -> None:
    run = search(replace(RECIPE, seed=seed))
    n, values = run.propose(trial)
    assert [row for m, row in enumerate(values, 1) if m != n] == [row for m, row in enumerate(run.best, 1) if m != n]
    forward, back, pc = (values[n - 1][name] for name in ("feedforward", "feedback", "pc"))
    assert 0 <= back <= 0.5
    assert forward >= 0.2 * (1 - back)
    assert forward + back <= 1
    assert 0 <= pc <= 1
    assert n < 2 or back == 0
    run.use(values)


def test_only_the_named_pcoders_are_drawn() -> None:
    run = search(replace(RECIPE, pcoders=(2,)))
    assert {run.propose(trial)[0] for trial in range(1, 20)} == {2}


@pytest.mark.parametrize("stop_at", [1, 4])
def test_an_interrupted_search_ends_as_an_undisturbed_one(tmp_path: Path, stop_at: int) -> None:
    undisturbed = search()
    expected = undisturbed.run()

    def interrupt(at: Progress) -> None:
        if at.step == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search().run(TrainingFolder(tmp_path / "t", {}), interrupt)
    resumed = search()
    assert without_speed(resumed.run(TrainingFolder(tmp_path / "t", {}))) == without_speed(expected)
    assert (resumed.best, resumed.timesteps) == (undisturbed.best, undisturbed.timesteps)


def test_the_batch_size_changes_nothing() -> None:
    one, other = search(), search(replace(RECIPE, batch_size=3))
    torch.testing.assert_close(one.judge(one.tuned).loss, other.judge(other.tuned).loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [2, 5, 11])
def test_a_limit_never_moves_an_image_from_one_part_to_the_other(limit: int) -> None:
    images = Pictures(40)
    whole_tuned, whole_reported = split(images.ids, 0.5)
    tuned, reported = tuning_images(images, 0.5, limit)
    assert len(tuned) == len(reported) == limit
    assert set(tuned) <= set(whole_tuned)
    assert set(reported) <= set(whole_reported)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"sigma": (-1.0,)}, "sigma is"),
        ({"pcoders": (3,)}, "there is no PCoder 3; the network has 1 to 2"),
        ({"pcoders": (1, 1)}, "a PCoder is named twice"),
    ],
)
def test_values_that_make_no_sense_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        search(replace(RECIPE, **change))  # type: ignore[arg-type]  # a table of values of several types
