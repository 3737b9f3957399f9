"""Training of whole networks: what is drawn, what is learnt, and that an interruption changes nothing."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pcbench
from pcbench.cli.app import main
from pcbench.data.geometry import Geometry
from pcbench.errors import RunError, UserError
from pcbench.models.base import FeedforwardClassifier, Preprocessing, TemporalClassifier
from pcbench.models.checkpoints import Metadata, read, save
from pcbench.models.hah import HaHCost
from pcbench.models.own import initialised
from pcbench.models.sources import sha256
from pcbench.randomness import torch_generator
from pcbench.training.batches import training_batches
from pcbench.training.classifier import ClassifierTraining, save_weights, start_with
from pcbench.training.distributed import Processes
from pcbench.training.examples import Crops, InMemory, Streamed, examples_of
from pcbench.training.folder import TrainingFolder
from pcbench.training.loop import Progress
from pcbench.training.parts import load_training_and_test
from pcbench.training.recipes import CLASSIFIER, CONVRNN, HAH, HAH_SHORT, ClassifierRecipe
from tests.training.tiny import Pictures

CIFAR = Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3)
ALONE = Processes(0, 1, torch.device("cpu"))


def arrays(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of noise whose class is their colour: easy to learn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    colours = np.random.default_rng(99).integers(0, 256, size=(10, 3))
    noise = rng.integers(-30, 31, size=(count, 32, 32, 3))
    return np.clip(colours[labels][:, None, None] + noise, 0, 255).astype(np.uint8), labels.astype(np.int64)


def examples(count: int, seed: int = 0) -> InMemory:
    images, labels = arrays(count, seed)
    return InMemory("colours", torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))


def training(name: str, recipe: ClassifierRecipe, cost: HaHCost | None = None, count: int = 80) -> ClassifierTraining:
    model = pcbench.load_model(name, "random", seed=recipe.seed)
    train, test = examples(count), examples(40, seed=1)
    return ClassifierTraining(model, train, test, recipe, ALONE, cost=cost, checkpoint_steps=3)


SMALL = ClassifierRecipe(epochs=3, batch_size=20, learning_rate=0.02, padding=2, ema=0.5, label_smoothing=0.1)
CASES: dict[str, tuple[str, ClassifierRecipe, HaHCost | None]] = {
    "vgg": ("vgg16-cifar?width=0.06", SMALL, None),
    "bfloat16": ("vgg16-cifar-plain?width=0.06", replace(SMALL, dtype="bfloat16"), None),
    "hah": ("hah-vgg16?width=0.06", replace(SMALL, optimiser="adam", learning_rate=3e-3, ema=0.0), HaHCost()),
    "convrnn": (
        "convrnn-ugrnn-shallow-cifar?width=0.06",
        replace(SMALL, timesteps=2, clip=1.0, loss_over="mean"),
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_training_ends_as_an_undisturbed_one(case: str, tmp_path: Path) -> None:
    name, recipe, cost = CASES[case]
    whole = training(name, recipe, cost)
    rows = whole.run()

    class KilledError(Exception):
        pass

    def kill_at(step: int) -> Callable[[object], None]:
        def stop(at: object) -> None:
            if at.step == step:
                raise KilledError

        return stop

    for step in (2, 5, 10):  # before any state, between states (within an epoch), after an epoch
        with pytest.raises(KilledError):
            training(name, recipe, cost).run(TrainingFolder(tmp_path, {}), kill_at(step))
    last = training(name, recipe, cost)
    again = last.run(TrainingFolder(tmp_path, {}))
    for key, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, last.model.state_dict()[key]), key
    for row, other in zip(rows, again, strict=True):
        assert {**row, "images_per_second": 0} == {**other, "images_per_second": 0}


LEARNERS: dict[str, tuple[str, ClassifierRecipe, HaHCost | None]] = {
    "vgg": ("vgg16-cifar?width=0.12", SMALL, None),
    "hah": ("hah-vgg16?width=0.12", replace(SMALL, optimiser="adam", learning_rate=5e-3, ema=0.0), HaHCost()),
    "convrnn": ("cornet-rt-cifar?width=0.12", replace(SMALL, timesteps=1, learning_rate=0.1, clip=1.0), None),
}


@pytest.mark.parametrize("case", LEARNERS)
def test_what_can_be_learnt_is_learnt(case: str) -> None:
    name, recipe, cost = LEARNERS[case]
    rows = training(name, replace(recipe, epochs=8), cost, count=200).run()
    losses = [float(row["train_loss"]) for row in rows]
    assert losses[-1] < 0.85 * losses[0]
    assert float(rows[-1][f"accuracy_t{recipe.timesteps}"]) > 0.2  # chance is 0.1


def test_the_hah_cost_is_climbed() -> None:
    name, recipe, _ = CASES["hah"]

    def climbed(alpha: float) -> float:
        cost = HaHCost(alphas=(alpha,) * 6)
        before = training(name, replace(recipe, epochs=4), cost)
        rows = before.run()
        return float(rows[-1]["hah_cost"]) - float(rows[0]["hah_cost"])

    assert climbed(1.0) > 0
    assert climbed(0.0) == 0


def test_only_the_last_or_all_timesteps_are_supervised() -> None:
    """The mean over timesteps gives each timestep's loss the same gradient; the last one's ignores the others."""
    gradients = {}
    for over in ("last", "mean"):
        made = training("convrnn-gru-shallow-cifar?width=0.06", replace(SMALL, timesteps=2, loss_over=over, ema=0.0))
        made.model.double()
        images, labels = next(made._batches())
        logits = made.model(images, timesteps=2)
        losses = [torch.nn.functional.cross_entropy(answer, labels, label_smoothing=0.1) for answer in logits]
        loss = losses[-1] if over == "last" else sum(losses) / 3
        expected = torch.autograd.grad(loss, made.parameters)
        made._train_step((images, labels))
        gradients[over] = [parameter.grad for parameter in made.parameters]
        for found, reference in zip(gradients[over], expected, strict=True):
            assert (found - reference).norm() <= 1e-3 * reference.norm()  # the loss is taken in float32
    assert not torch.allclose(gradients["last"][0], gradients["mean"][0])


def test_the_running_mean_is_what_is_kept() -> None:
    name, recipe, _ = CASES["vgg"]
    made = training(name, replace(recipe, epochs=1, ema=0.5))
    means: dict[str, torch.Tensor] = {}

    def follow(at: object) -> None:
        decay = min(0.5, (1 + at.step) / (10 + at.step))
        for key, tensor in made.model.state_dict().items():
            if tensor.is_floating_point():
                means[key] = means[key] * decay + tensor * (1 - decay)

    means.update({key: tensor.clone() for key, tensor in made.model.state_dict().items() if tensor.is_floating_point()})
    made.run(progress=follow)
    for key, tensor in means.items():
        torch.testing.assert_close(made.model.state_dict()[key], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(npz: Path, tmp_path: Path) -> None:
    """Without batch normalisation, whose statistics are each process's own."""
    words = ["train", "convrnn", "--model", "convrnn-simplernn-shallow-cifar?width=0.06", "--data", str(npz)]
    words += ["--epochs", "2", "--batch-size", "20", "--timesteps", "1", "--no-half", "--device", "cpu", "--output"]
    code = "from pcbench.cli.app import main; main()"
    script = tmp_path / "main.py"
    script.write_text(code)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    for command_, name in ([sys.executable, str(script)], "one"), (torchrun, "two"):
        done = subprocess.run(
            [*command_, *words, str(tmp_path / name)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (read(tmp_path / name / "network.safetensors").tensors for name in ("one", "two"))
    model = pcbench.load_model("convrnn-simplernn-shallow-cifar?width=0.06", "random")
    for key, tensor in one.items():
        torch.testing.assert_close(two[key], tensor, rtol=1e-3, atol=1e-4)
    assert any(not torch.allclose(tensor, model.state_dict()[key], atol=1e-3) for key, tensor in one.items())


def crop_loop(image: np.ndarray, padding: int, row: int, column: int, flip: bool) -> np.ndarray:
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    view = padded[:, row : row + image.shape[1], column : column + image.shape[2]]
    return (view[:, :, ::-1] if flip else view) / np.float32(255)


def test_views_are_crops_and_mirror_images() -> None:
    images = torch.randint(0, 256, (6, 3, 8, 9), dtype=torch.uint8)
    crops = Crops.draw(images, 2, 0, seed=3, epoch=1)
    assert crops.flips.any()
    assert not crops.flips.all()
    views = crops.of(images, torch.arange(6))
    for index in range(6):
        row, column = crops.offsets[index].tolist()
        expected = crop_loop(images[index].numpy(), 2, row, column, bool(crops.flips[index]))
        np.testing.assert_array_equal(views[index].numpy(), expected.astype(np.float32))


@pytest.mark.parametrize("side", [1, 4, 5])
def test_cutout_lays_one_black_square_on_the_same_crops(side: int) -> None:
    images = torch.randint(1, 256, (40, 3, 8, 9), dtype=torch.uint8)
    whole, cut = (Crops.draw(images, 0, cutout, seed=3, epoch=1) for cutout in (0, side))
    before, after = whole.of(images, torch.arange(40)), cut.of(images, torch.arange(40))
    for index, (row, column) in enumerate(cut.centres.tolist()):
        expected = before[index].clone()
        top, left = row - side // 2, column - side // 2
        expected[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0
        assert torch.equal(after[index], expected)
    assert cut.centres.amin(0).tolist() == [0, 0]
    assert cut.centres.amax(0).tolist() == [7, 8]


def test_views_do_not_depend_on_the_batch_and_change_with_the_epoch() -> None:
    images = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8)
    crops = Crops.draw(images, 4, 3, seed=0, epoch=0)
    order = torch.tensor([5, 2, 7])
    assert torch.equal(crops.of(images, order), crops.of(images, torch.arange(8))[order])
    assert not torch.equal(crops.offsets, Crops.draw(images, 4, 3, seed=0, epoch=1).offsets)
    assert not torch.equal(crops.offsets, Crops.draw(images, 4, 3, seed=1, epoch=0).offsets)


def test_published_and_shortened_recipes() -> None:
    assert (HAH.optimiser, HAH.learning_rate, HAH.weight_decay, HAH.epochs, HAH.batch_size) == (
        "adam",
        1e-3,
        0,
        100,
        128,
    )
    rates = [HAH.rate(epoch * 390, 100 * 390) for epoch in (0, 59, 60, 79, 80, 99)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    assert [HAH_SHORT.rate(epoch, 30) for epoch in (17, 18, 23, 24)] == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])
    assert CONVRNN.clip == 1.0


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_rates_rise_and_fall(schedule: str) -> None:
    recipe = replace(CLASSIFIER, schedule=schedule)
    rates = [recipe.rate(step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(recipe.learning_rate)
    assert rates.index(max(rates)) == 20
    assert all(a < b for a, b in itertools.pairwise(rates[:21]))
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    assert rates[-1] < 0.05 * recipe.learning_rate


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"learning_rate": 0.0}, {"ema": 1.0}, {"clip": -1.0}, {"warmup": 2.0}]
)
def test_senseless_values_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        replace(CLASSIFIER, **change)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    with pytest.raises(RunError, match="not finite at step"):
        training("vgg16-cifar-plain?width=0.06", replace(SMALL, learning_rate=1e30, ema=0.0, optimiser="sgd")).run()


def test_what_does_not_fit_is_refused() -> None:
    model = pcbench.load_model("vgg16-cifar?width=0.06", "random")
    with pytest.raises(UserError, match="10 training images do not fill a batch of 20"):
        ClassifierTraining(model, examples(10), examples(10), SMALL, ALONE)
    with pytest.raises(UserError, match="no HaH blocks"):
        ClassifierTraining(model, examples(40), examples(10), SMALL, ALONE, cost=HaHCost())


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "colours.npz"
    (x, y), (x_test, y_test) = arrays(100), arrays(30, seed=1)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return path


def test_parts_of_an_array_file(npz: Path) -> None:
    train, test = load_training_and_test(str(npz), "cifar10")
    assert (len(train), len(test)) == (100, 30)
    kept = examples_of(train, CIFAR, 0)
    assert isinstance(kept, InMemory)
    np.testing.assert_array_equal(kept.images.permute(0, 2, 3, 1).numpy(), arrays(100)[0])
    fewer, held_out = load_training_and_test(str(npz), "cifar10", limit=40, held_out=0.25)
    assert (len(fewer), len(held_out)) == (30, 10)


def test_parts_of_a_folder(tmp_path: Path) -> None:
    from PIL import Image

    from pcbench.data.sets.cifar10 import CLASSES as CIFAR10

    images, labels = arrays(20)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / ("train" if index < 10 else "test") / CIFAR10[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    train, test = load_training_and_test(str(tmp_path), "cifar10")
    np.testing.assert_array_equal(train.read(3), images[list(labels).index(train.labels[3])])
    assert len(test) == 10
    with pytest.raises(UserError, match="has no test part; --held-out"):
        load_training_and_test(str(tmp_path / "train"), "cifar10")
    with pytest.raises(UserError, match="is 32 x 32; this model trains on images of its own size, 48 x 48"):
        examples_of(train, replace(CIFAR, size=(48, 48)), 0)
    with pytest.raises(UserError, match="labels of cifar10; the model knows imagenet"):
        load_training_and_test(str(tmp_path), "imagenet")


class Large(Pictures):
    """Images of the model's classes that are too many and too large for memory, in spirit; 20 x 20 in truth."""

    def __init__(self, count: int = 24, ids: Sequence[str] | None = None) -> None:
        super().__init__(count, ids)
        self.label_space = "imagenet"


LARGE = Preprocessing((80, 80), (0.5,) * 3, (0.25,) * 3, resize=80)


def streamed(workers: int = 0) -> Streamed:
    made = examples_of(Large(), LARGE, workers)
    assert isinstance(made, Streamed)
    return made


def test_large_images_are_read_as_they_are_needed_and_workers_change_nothing() -> None:
    recipe = replace(SMALL, batch_size=8)
    places = lambda: training_batches(list(range(24)), 8, range(6), seed=0)  # noqa: E731
    alone, helped = (list(streamed(workers).views(places(), recipe)) for workers in (0, 2))
    assert [tuple(images.shape) for images, _ in alone] == [(8, 3, 80, 80)] * 6
    for (images, labels), (again, same) in zip(alone, helped, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, same)
        assert 0 <= float(images.min()) <= float(images.max()) <= 1
    first_epoch = torch.cat([labels for _, labels in alone[:3]])
    assert sorted(first_epoch.tolist()) == sorted(n % 5 for n in range(24))
    order = {epoch: next(training_batches(list(range(24)), 8, range(3 * epoch, 9), seed=0))[0] for epoch in (0, 1)}
    views = [next(streamed().views(iter([[place]]), recipe))[0] for place in ((0, order[0][1]), (1, order[0][1]))]
    assert not torch.equal(*views)  # another crop in another epoch


def test_every_streamed_image_is_evaluated_once_as_the_model_sees_it() -> None:
    made = streamed()
    batches = list(made.evaluation(10))
    assert [len(labels) for _, labels in batches] == [10, 10, 4]
    assert torch.cat([labels for _, labels in batches]).tolist() == made.images.labels
    expected = Geometry.of(LARGE).prepare(made.images.read(11))
    np.testing.assert_allclose(batches[1][0][1].permute(1, 2, 0).numpy() * 255, expected, atol=1e-4)
    shares = [torch.cat([labels for _, labels in made.evaluation(5, rank, 2)]) for rank in (0, 1)]
    assert sorted(torch.cat(shares).tolist()) == sorted(made.images.labels)


def test_a_network_trains_on_streamed_images_and_resumes(tmp_path: Path) -> None:
    def made() -> ClassifierTraining:
        layers = [nn.Conv2d(3, 4, 5, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)]
        model = FeedforwardClassifier(initialised(lambda: nn.Sequential(*layers), 0), 5, LARGE)
        for index, parameter in enumerate(model.parameters()):
            parameter.data.copy_(torch.randn(parameter.shape, generator=torch_generator("streamed", index)) / 4)
        recipe = replace(SMALL, batch_size=8, epochs=2, ema=0.0)
        return ClassifierTraining(model, streamed(), streamed(), recipe, ALONE, checkpoint_steps=1)

    def interrupt(at: Progress) -> None:
        if at.step == 4:
            raise KeyboardInterrupt

    undisturbed = made()
    rows = undisturbed.run()
    with pytest.raises(KeyboardInterrupt):
        made().run(TrainingFolder(tmp_path / "t", {}), interrupt)
    resumed = made()
    again = resumed.run(TrainingFolder(tmp_path / "t", {}))
    assert [{**row, "images_per_second": 0} for row in rows] == [{**row, "images_per_second": 0} for row in again]
    for one, other in zip(undisturbed.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def command(recipe: str, *words: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["train", recipe, *words])
    code = exit_.value.code
    assert isinstance(code, int)
    return code


RECIPES = {
    "classifier": ("vgg16-cifar?width=0.06", "--ema", "0.5"),
    "hah": ("hah-vgg16-lambda-1?width=0.06", "--recipe", "short"),
    "convrnn": ("convrnn-rgc-intermediate-cifar?width=0.06", "--timesteps", "2", "--loss-over", "mean"),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_command_trains_installs_and_the_weights_load(
    recipe: str, npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path / "weights"))
    name, *more = RECIPES[recipe]
    output = tmp_path / "out"
    words = ["--model", name, "--data", str(npz), "--output", str(output), "--epochs", "1", "--batch-size", "50"]
    assert command(recipe, *words, "--install", "--no-half", *more) == 0
    assert {path.name for path in output.iterdir()} >= {"network.safetensors", "log.csv", "curves.png", "training.json"}
    metadata = read(output / "network.safetensors").metadata
    assert metadata.architecture == name.partition("?")[0]
    assert "100 images" in metadata.data
    model: TemporalClassifier = pcbench.load_model(name)  # the first tag, whose file is now at hand
    assert model.weights == "cifar10"
    assert model.provenance["sha256"]
    assert not torch.equal(
        model(torch.ones(1, 3, 32, 32)), pcbench.load_model(name, "random")(torch.ones(1, 3, 32, 32))
    )
    assert command(recipe, *words, "--no-half", *more) == 0  # finished already: nothing to do
    with pytest.raises(UserError, match=r"does not fit|another configuration"):
        pcbench.load_model(name.replace("0.06", "0.1"), "cifar10")


@pytest.mark.parametrize(
    ("recipe", "words", "message"),
    [
        ("classifier", ["--model", "vgg16-cifer"], "did you mean vgg16-cifar"),
        ("classifier", ["--model", "vgg16-cifar", "--tag", "cifar100"], "no weights 'cifar100'; did you mean cifar10"),
        ("classifier", ["--model", "convrnn-gru-shallow-cifar"], "has dynamics"),
        ("classifier", ["--model", "timm:resnet18"], "not trained as a whole here"),
        ("hah", ["--model", "vgg16-cifar"], "no Hebbian network"),
        ("hah", ["--model", "hah-vgg16", "--alphas", "1,2"], "6 numbers"),
        ("convrnn", ["--model", "convrnn-gru-shallow-cifar", "--epochs", "0"], "epochs is 0"),
        ("convrnn", ["--model", "convrnn-gru-shallow-cifar", "--data", "none.npz"], "no data set or folder"),
    ],
)
def test_command_refuses_bad_input_and_writes_nothing(
    recipe: str, words: list[str], message: str, npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert command(recipe, "--data", str(npz), "--output", str(output), *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not output.exists()


def test_command_refuses_the_folder_of_another_training(
    npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--model",
        "vgg16-cifar?width=0.06",
        "--data",
        str(npz),
        "--output",
        str(tmp_path / "out"),
        "--epochs",
        "1",
    ]
    assert command("classifier", *words, "--batch-size", "50") == 0
    assert command("classifier", *words, "--batch-size", "25") == 2
    assert "its batch_size is 50, not 25" in capsys.readouterr().err


def test_a_training_begins_where_another_ended(tmp_path: Path) -> None:
    name, recipe, _ = CASES["vgg"]
    first = training(name, recipe)
    rows = first.run(TrainingFolder(tmp_path, {}))
    save_weights(first, TrainingFolder(tmp_path, {}), command="test", half=False)
    second = training(name, replace(recipe, seed=1))
    unlike = second.evaluate()
    start_with(second.model, tmp_path / "network.safetensors")
    for key, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[key]), key
    # The state that the constructor keeps of the network must be of these weights too, so it comes after them.
    again = ClassifierTraining(second.model, second.train, second.test, second.recipe, ALONE).evaluate()
    assert again == {key: rows[-1][key] for key in again}
    assert again != unlike


def test_command_starts_from_a_file_and_records_it(npz: Path, tmp_path: Path) -> None:
    def trained(output: str, *more: str) -> dict[str, torch.Tensor]:
        words = ["--model", "vgg16-cifar?width=0.06", "--data", str(npz), "--output", str(tmp_path / output)]
        assert command("classifier", *words, "--epochs", "1", "--batch-size", "50", "--no-half", *more) == 0
        return read(tmp_path / output / "network.safetensors").tensors

    still = ("--learning-rate", "1e-20", "--ema", "0")  # so what is written is what the training began with
    first = trained("first")
    started = trained("second", *still, "--start-from", str(tmp_path / "first" / "network.safetensors"))
    fresh = trained("third", *still)
    kernels = [name for name, tensor in first.items() if tensor.ndim == 4]
    assert all(torch.equal(first[name], started[name]) for name in kernels)
    assert not any(torch.equal(first[name], fresh[name]) for name in kernels)
    checksum = sha256(tmp_path / "first" / "network.safetensors")
    assert json.loads((tmp_path / "second" / "training.json").read_text())["start"] == checksum
    assert checksum in read(tmp_path / "second" / "network.safetensors").metadata.recipe
    assert "start" not in json.loads((tmp_path / "third" / "training.json").read_text())


@pytest.mark.parametrize(
    ("model", "content", "message"),
    [
        ("vgg16-cifar-plain?width=0.06", None, "are for 'vgg16-cifar', expected 'vgg16-cifar-plain'"),
        ("vgg16-cifar?width=0.1", None, "does not fit"),
        ("vgg16-cifar?width=0.06", b"no weights", "damaged"),
    ],
)
def test_command_starts_from_no_weights_of_another_network(
    model: str, content: bytes | None, message: str, npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, output = tmp_path / "start.safetensors", tmp_path / "out"
    if content is None:
        network = pcbench.load_model("vgg16-cifar?width=0.06", "random").network
        save(start, network.state_dict(), Metadata(architecture="vgg16-cifar"), half=True)
    else:
        start.write_bytes(content)
    words = ["--model", model, "--data", str(npz), "--output", str(output), "--start-from", str(start)]
    assert command("classifier", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not output.exists()
