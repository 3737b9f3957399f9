import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from pcbench.errors import RunError, UserError
from pcbench.models.checkpoints import read
from pcbench.models.feedback_weights import load_feedback_weights
from pcbench.training.batches import Augmentation, split, training_batches
from pcbench.training.curves import draw_feedback
from pcbench.training.distributed import Processes
from pcbench.training.feedback import FeedbackRecipe, FeedbackTraining, save_weights
from pcbench.training.folder import TrainingFolder
from pcbench.training.loop import Progress
from tests.training.tiny import Pictures, tiny_model

ALONE = Processes(0, 1, torch.device("cpu"))
RECIPE = FeedbackRecipe(epochs=4, batch_size=6, learning_rate=1e-2, held_out=0.25)
ARGUMENTS = {"recipe": "feedback"}


def training(recipe: FeedbackRecipe = RECIPE, **options: object) -> FeedbackTraining:
    return FeedbackTraining(tiny_model(), Pictures(), recipe, ALONE, **options)  # type: ignore[arg-type]


def parameters(done: FeedbackTraining) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in done.decoders.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def without_speed(rows: list[dict[str, float | int | str]]) -> list[dict[str, float | int | str]]:
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in rows]


def test_the_loss_is_the_sum_of_the_published_mean_squared_errors() -> None:
    model = tiny_model()
    run = FeedbackTraining(model, Pictures(), RECIPE, ALONE)
    images = torch.rand(4, 3, 16, 16)
    x = (images - 0.5) / 0.25
    net = model.network.backbone.net
    e1 = net[0](x)
    e2 = net[2](net[1](e1))
    predictors = [pcoder.predictor for pcoder in model.network.pcoders]
    expected = [nn.functional.mse_loss(predictors[0](e1), x), nn.functional.mse_loss(predictors[1](e2), e1)]
    found = run.decoders(run._levels(images))
    torch.testing.assert_close(found, torch.stack(expected))


def test_training_moves_predictors_only_and_explains_more() -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outcome = FeedbackTraining(model, Pictures(), replace(RECIPE, epochs=40), ALONE).run()
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if ".predictor." in name}
    assert float(outcome.rows[-1]["score"]) < 0.6 * float(outcome.rows[0]["score"])
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_two_trainings_of_one_recipe_are_equal_and_another_seed_is_not() -> None:
    runs = [training(recipe) for recipe in (RECIPE, RECIPE, replace(RECIPE, seed=1))]
    rows = [without_speed(run.run().rows) for run in runs]
    assert rows[0] == rows[1]
    assert same(parameters(runs[0]), parameters(runs[1]))
    assert not same(parameters(runs[0]), parameters(runs[2]))


def test_the_number_of_workers_changes_nothing() -> None:
    alone, helped = training(), training(workers=2)
    alone.run()
    helped.run()
    assert same(parameters(alone), parameters(helped))


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    training().run()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stop_at", [1, 2, 3, 7])
def test_an_interrupted_training_ends_as_an_undisturbed_one(tmp_path: Path, stop_at: int) -> None:
    undisturbed = training()
    expected = undisturbed.run()

    def interrupt(at: Progress) -> None:
        if at.step == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(checkpoint_steps=1).run(TrainingFolder(tmp_path / "t", ARGUMENTS), interrupt)
    resumed = training(checkpoint_steps=1)
    steps: list[int] = []
    outcome = resumed.run(TrainingFolder(tmp_path / "t", ARGUMENTS), lambda at: steps.append(at.step))
    assert steps[0] == stop_at + 1
    assert without_speed(outcome.rows) == without_speed(expected.rows)
    assert same(parameters(resumed), parameters(undisturbed))
    log = pd.read_csv(tmp_path / "t" / "log.csv")
    assert log["epoch"].tolist() == [1, 2, 3, 4]


KILLED = """
import sys
from pathlib import Path
from tests.training.test_feedback import ARGUMENTS, TrainingFolder, training
folder = TrainingFolder(Path(sys.argv[1]), ARGUMENTS)
training(checkpoint_steps=1).run(folder, lambda at: print(at.step, flush=True))
"""


@pytest.mark.slow
def test_a_kill_without_warning_loses_nothing(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "t")]
    for wanted in ("2", "5"):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=environment)
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == wanted:
                time.sleep(0.002)
                child.send_signal(signal.SIGKILL)
                break
        child.wait()
    resumed, undisturbed = training(), training()
    outcome = resumed.run(TrainingFolder(tmp_path / "t", ARGUMENTS))
    assert without_speed(outcome.rows) == without_speed(undisturbed.run().rows)
    assert same(parameters(resumed), parameters(undisturbed))


DISTRIBUTED = """
import sys, torch
from tests.training.test_feedback import RECIPE, FeedbackTraining, Pictures, processes_of_test, tiny_model
torch.set_num_threads(1)
with processes_of_test() as group:
    run = FeedbackTraining(tiny_model(), Pictures(), RECIPE, group)
    outcome = run.run()
    if group.first:
        torch.save({"parameters": run.decoders.state_dict(), "rows": outcome.rows}, sys.argv[1])
"""


def processes_of_test() -> object:
    from pcbench.training.distributed import processes

    return processes("cpu")


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    script = tmp_path / "script.py"
    script.write_text(DISTRIBUTED)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [*command, "--standalone", str(script), str(tmp_path / "out.pt")],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    alone = training()
    expected = alone.run()
    for name, tensor in parameters(alone).items():
        torch.testing.assert_close(found["parameters"][name], tensor, rtol=1e-3, atol=1e-5)
    for row, other in zip(without_speed(found["rows"]), without_speed(expected.rows), strict=True):
        assert row == pytest.approx(other, rel=1e-3)


def test_the_rate_rises_falls_and_is_really_used() -> None:
    recipe = replace(RECIPE, warmup=0.1, learning_rate=1.0)
    rates = [recipe.rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 1e-3
    run = training()
    seen: list[float] = []
    run.run(progress=lambda _: seen.append(run.optimiser.param_groups[0]["lr"]))
    assert seen == [RECIPE.rate(step, run.steps) for step in range(run.steps)]
    assert len(set(seen)) == run.steps


def test_patience_stops_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    run = training(replace(RECIPE, epochs=50, learning_rate=5.0, patience=2, warmup=0.0, schedule="constant"))
    outcome = run.run()
    assert outcome.stopped_early
    assert len(outcome.rows) < 50
    scores = [float(row["score"]) for row in outcome.rows]
    assert float(outcome.best["score"]) == min(scores)
    assert scores.index(min(scores)) == len(scores) - 3
    loss, _ = run.evaluate(run.held_out)
    assert loss[0] == pytest.approx(float(outcome.best["held_out_loss_1"]), rel=1e-5)


def test_explained_variance_is_one_minus_loss_over_variance() -> None:
    run = training()
    loss, explained = run.evaluate(run.held_out)
    images = torch.stack([run.views[(-1, position)][0] for position in run.held_out])
    levels = run._levels(images)
    for n in range(2):
        variance = float(levels[n].double().var(correction=0))
        assert explained[n] == pytest.approx(1 - loss[n] / variance, rel=1e-4)


def test_weights_are_saved_with_their_history_and_load_again(tmp_path: Path) -> None:
    run = training(workers=0)
    outcome = run.run(TrainingFolder(tmp_path / "t", ARGUMENTS))
    path = tmp_path / "t" / "feedback.safetensors"
    written = save_weights(run.model, run.images, len(run.held_out), "adamw", path, half=False)
    assert written.architecture == "tiny"
    assert written.recipe == "pcbench train feedback: backbone seed 0, adamw"
    assert written.data == "pictures: 18 images, 6 held out"
    fresh = tiny_model(seed=9)
    load_feedback_weights(fresh, path)
    for n in range(2):
        loaded, trained = fresh.network.pcoders[n].predictor.parameters(), run.decoders.predictors[n].parameters()
        assert all(torch.equal(a, b) for a, b in zip(loaded, trained, strict=True))
    assert read(path).metadata == written
    files = draw_feedback(outcome.rows, tmp_path / "curves")
    assert files[0].read_bytes().startswith(b"\x89PNG")


def test_a_loss_that_is_not_finite_names_the_pcoder() -> None:
    run = training()
    next(run.decoders.predictors[1].parameters()).data.fill_(float("inf"))
    with pytest.raises(RunError, match=r"the loss of PCoder 2 is not finite at step 0"):
        run.run()


def test_bfloat16_trains_float32_parameters() -> None:
    run = training(replace(RECIPE, dtype="bfloat16"))
    run.run()
    assert all(tensor.dtype == torch.float32 for tensor in parameters(run).values())
    reference = training()
    reference.run()
    for name, tensor in parameters(run).items():
        torch.testing.assert_close(tensor, parameters(reference)[name], rtol=0.1, atol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0; the smallest is 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": float("nan")}, "learning rate is nan"),
        ({"crop_scale": 1.5}, "crop_scale is 1.5"),
        ({"held_out": 1.0}, "held-out share is 1.0"),
        ({"held_out": 0.001}, "24 images are too few to hold out"),
    ],
)
def test_values_that_make_no_sense_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        training(replace(RECIPE, **change))  # type: ignore[arg-type]


def test_another_training_in_the_folder_is_refused(tmp_path: Path) -> None:
    TrainingFolder(tmp_path / "t", {"seed": 0, "model": "a"})
    TrainingFolder(tmp_path / "t", {"seed": 0, "model": "a"})
    with pytest.raises(UserError, match=r"holds another training: its seed is 0, not 1"):
        TrainingFolder(tmp_path / "t", {"seed": 1, "model": "a"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty and holds no training"):
        TrainingFolder(tmp_path / "full", {})
    folder = TrainingFolder(tmp_path / "t", {"seed": 0, "model": "a"})
    (tmp_path / "t" / "state.pt").write_bytes(b"garbage")
    with pytest.raises(UserError, match=r"state\.pt is refused, because it is damaged"):
        folder.load_state()


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pcbench.training.folder import TrainingFolder\n"
        "folder = TrainingFolder(Path(sys.argv[1]), {'seed': 0})\n"
        "print('mine', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "t")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(UserError, match="is in use by another training; wait, or give another --output"):
            TrainingFolder(tmp_path / "t", {"seed": 0})
        other.kill()
    first = TrainingFolder(tmp_path / "t", {"seed": 0})  # a killed process holds nothing
    second = TrainingFolder(tmp_path / "t", {"seed": 0})
    del first
    with pytest.raises(subprocess.CalledProcessError):  # the second object keeps the lock
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    del second
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def test_the_split_depends_on_ids_alone() -> None:
    names = [f"image-{n}" for n in range(50)]
    train, held_out = split(names, 0.2)
    assert len(held_out) == 10
    assert sorted(train + held_out) == list(range(50))
    shuffled = list(reversed(names))
    assert {shuffled[n] for n in split(shuffled, 0.2)[1]} == {names[n] for n in held_out}
    assert split(names, 0.0) == (list(range(50)), [])


def test_processes_share_each_batch() -> None:
    whole = list(training_batches(list(range(20)), 6, range(7), seed=3))
    halves = [list(training_batches(list(range(20)), 6, range(7), 3, rank, 2)) for rank in (0, 1)]
    assert all(sorted(a) == sorted(b + c) for a, b, c in zip(whole, *halves, strict=True))
    assert list(training_batches(list(range(20)), 6, range(4, 7), seed=3)) == whole[4:]
    first_epoch = [place for batch in whole[:3] for place in batch]
    assert len({position for _, position in first_epoch}) == 18


def test_a_crop_of_everything_without_a_mirror_is_a_resize() -> None:
    import numpy as np
    from PIL import Image

    picture = Pictures().read(0)
    whole = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    found = whole.apply(picture, (10, 10), np.random.default_rng(0))
    expected = np.asarray(Image.fromarray(picture).resize((10, 10), Image.Resampling.BILINEAR))
    assert np.abs(found.astype(int) - expected).max() <= 1
    mirrored = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=1.0)
    assert np.array_equal(mirrored.apply(picture, (10, 10), np.random.default_rng(0)), found[:, ::-1])


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    run = training(replace(RECIPE, batch_size=64))
    assert run.per_epoch == 1
    run.run()
    whole = training(replace(RECIPE, batch_size=18))
    whole.run()
    assert same(parameters(run), parameters(whole))


def test_a_training_begins_with_the_predictors_that_there_are_when_asked() -> None:
    model = tiny_model(seed=5)
    before = {name: tensor.clone() for name, tensor in model.network.pcoders.state_dict().items()}
    begun = FeedbackTraining(model, Pictures(), RECIPE, ALONE, start=True)
    assert same(before, begun.model.network.pcoders.state_dict())
    begun = FeedbackTraining(tiny_model(seed=5), Pictures(), RECIPE, ALONE)
    assert not same(before, begun.model.network.pcoders.state_dict())
