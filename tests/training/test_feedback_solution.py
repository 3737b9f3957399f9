from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcbench.errors import UserError
from pcbench.models.checkpoints import feedback_tensors
from pcbench.models.feedback_weights import load_feedback_weights
from pcbench.training import feedback_solution
from pcbench.training.distributed import Processes
from pcbench.training.feedback import FeedbackRecipe, FeedbackTraining, save_weights
from pcbench.training.feedback_solution import FeedbackSolution, SolutionRecipe
from tests.training.tiny import Pictures, tiny_model

RECIPE = SolutionRecipe(held_out=0.25, half=False)
ALONE = Processes(0, 1, torch.device("cpu"))
RELU = "Sequential(ConvTranspose2d(6, 4, 6, stride=2, padding=2), ReLU(inplace=True))"


def test_least_squares_are_where_gradient_descent_ends() -> None:
    solved = FeedbackSolution(tiny_model(), Pictures(), RECIPE)
    rows = solved.run()
    assert solved.train_positions == [n for n in range(24) if n not in solved.held_out]
    recipe = FeedbackRecipe(epochs=300, batch_size=18, learning_rate=2e-2, held_out=0.25, augment=False)
    descended = FeedbackTraining(tiny_model(), Pictures(), recipe, ALONE).run()
    for n, row in enumerate(rows, start=1):
        reached = float(descended.rows[-1][f"train_loss_{n}"])
        assert float(row["train_error"]) <= reached * 1.001
        assert float(row["train_error"]) == pytest.approx(reached, rel=0.05)


def test_what_is_reported_is_what_the_network_predicts() -> None:
    model = tiny_model(second=RELU)
    solved = FeedbackSolution(model, Pictures(), RECIPE)
    rows = solved.run()
    images = torch.stack([solved._views[(-1, position)][0] for position in solved.held_out])
    step = next(iter(model.network.unroll(model.normalise(images), timesteps=0)))
    below = [model.normalise(images), *step.representations]
    for n, row in enumerate(rows):
        error = (step.predictions[n] - below[n]).double().square().mean()
        assert row["held_out_error"] == pytest.approx(float(error), rel=1e-5)
        variance = float(below[n].double().var(correction=0))
        assert row["explained_variance"] == pytest.approx(1 - float(error) / variance, rel=1e-4)
    assert rows[0]["explained_variance"] == rows[0]["explained_variance_linear"]
    assert (
        rows[1]["explained_variance"] != rows[1]["explained_variance_linear"]
    )  # a batch norm's output is negative too


def test_the_solution_depends_on_images_alone() -> None:
    models = [tiny_model(), tiny_model(), tiny_model(seed=0)]
    for model, batch, workers in zip(models, (32, 5, 32), (0, 0, 2), strict=True):
        FeedbackSolution(model, Pictures(), replace(RECIPE, batch_size=batch), workers=workers).run()
    tensors = [feedback_tensors(model.network) for model in models]
    for name, tensor in tensors[0].items():
        torch.testing.assert_close(tensors[1][name], tensor, rtol=1e-4, atol=1e-5)
        assert torch.equal(tensors[2][name], tensor)


def test_what_is_stored_in_half_precision_is_what_was_judged(tmp_path: Path) -> None:
    model = tiny_model()
    FeedbackSolution(model, Pictures(), replace(RECIPE, half=True)).run()
    save_weights(model, Pictures(), 6, "least squares", tmp_path / "f.safetensors", half=True)
    fresh = tiny_model(seed=0)
    load_feedback_weights(fresh, tmp_path / "f.safetensors")
    for name, tensor in feedback_tensors(fresh.network).items():
        if "predictor" in name:
            assert torch.equal(tensor, feedback_tensors(model.network)[name])


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7])
def test_too_few_images_are_refused_with_how_many_are_needed(count: int) -> None:
    wide = "Sequential(ConvTranspose2d(6, 4, 14, stride=2, padding=6))"  # 6 x 49 values in a window, of 16 an image
    with pytest.raises(UserError) as caught:
        FeedbackSolution(tiny_model(second=wide), Pictures(count), RECIPE)
    assert f"{count} images are too few for least squares: PCoder 2 has 294 values in a window" in str(caught.value)
    assert "needs 19 images to train on, so with 0.25 held out at least 25" in str(caught.value)
    FeedbackSolution(tiny_model(second=wide), Pictures(25), RECIPE)
    with pytest.raises(UserError, match="24 images are too few"):
        FeedbackSolution(tiny_model(second=wide), Pictures(24), RECIPE)


def test_too_little_memory_is_refused_before_the_first_image(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 1000

    monkeypatch.setattr(feedback_solution.psutil, "virtual_memory", Memory)
    with pytest.raises(UserError, match=r"need 0.0 GB of memory \(most of it for PCoder 2\).*--method gradient"):
        FeedbackSolution(tiny_model(), Pictures(), RECIPE)


def test_files_load_into_their_own_network_and_configuration_alone(tmp_path: Path) -> None:
    model = tiny_model()
    path = tmp_path / "f.safetensors"
    save_weights(model, Pictures(), 6, "least squares", path, half=False)
    assert load_feedback_weights(model.network, path).architecture == "tiny"
    other = tiny_model()
    other.name = "small"
    with pytest.raises(UserError, match=r"f.safetensors has the feedback weights of tiny, not of small"):
        load_feedback_weights(other, path)
    with pytest.raises(UserError, match=r"belongs to another configuration of tiny: 2 PCoders, hash .*name the config"):
        load_feedback_weights(tiny_model(second=RELU), path)
    with pytest.raises(UserError, match="Linear is not a predictive network"):
        load_feedback_weights(torch.nn.Linear(2, 2), path)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no file of weights"):
        load_feedback_weights(model, tmp_path / "none.safetensors")
    load_feedback_weights(model, str(path))
    assert "feedback" in model.provenance["sha256"]  # type: ignore[operator]
