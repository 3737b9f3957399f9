"""Averaging over noisy passes and diffusion of the image, against slow references and through a whole run."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from pcbench.cli.app import main
from pcbench.data.geometry import Geometry
from pcbench.data.registry import choose_data
from pcbench.errors import UserError
from pcbench.harness.cost import macs_per_timestep, macs_unrolled
from pcbench.harness.run import run
from pcbench.models.base import FeedforwardClassifier, Preprocessing, TemporalClassifier
from pcbench.models.controls import Averaging, Diffusion, heat_kernel, reflected
from pcbench.models.listing import describe_model
from pcbench.models.resolve import find, load_model, resolve
from pcbench.models.spec import MODELS
from pcbench.randomness import torch_generator

SMALL = Preprocessing((8, 8), (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
OF_SAMPLES = Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3, resize=32)


def small() -> FeedforwardClassifier:
    """A convolution and a linear layer: 8 x 8 images, 5 classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(384, 5))
    return FeedforwardClassifier(network.eval().requires_grad_(False), 5, SMALL)


class Nearest(nn.Module):
    """Logits that fall with the squared distance of the pooled image from one image of each class."""

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        self.centres = nn.Parameter(centres)

    def forward(self, x: Tensor) -> Tensor:
        seen = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return 2 * seen @ self.centres.T - self.centres.square().sum(1)


@cache
def _centres() -> Tensor:
    samples, _ = choose_data("samples", "imagenet")
    geometry = Geometry.of(OF_SAMPLES)
    centres = torch.full((1000, 48), 10.0)
    for position, label in enumerate(samples.labels):
        pixels = torch.from_numpy(np.array(geometry.prepare(samples.decode(position, samples.raw(position))))) / 255
        image = (pixels.permute(2, 0, 1) - 0.5) / 0.25
        centres[label] = nn.functional.adaptive_avg_pool2d(image, 4).flatten()
    return centres


def knows_samples() -> FeedforwardClassifier:
    """Right about the sample images: something to attack, by the name `test_controls:knows_samples`."""
    made = FeedforwardClassifier(Nearest(_centres().clone()), 1000, OF_SAMPLES)
    made.label_space = "imagenet"  # type: ignore[assignment]
    return made


def with_dynamics() -> TemporalClassifier:
    made = Diffusion(small(), 0.5)
    made.label_space = "imagenet"  # type: ignore[assignment]
    return made


def images(count: int = 5, side: int = 8) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(3))


CONTROLS = [lambda: Averaging(small(), 0.3), lambda: Diffusion(small(), 0.7)]
both = pytest.mark.parametrize("make", CONTROLS, ids=["averaging", "diffusion"])


# --- what they compute -----------------------------------------------------------------------------------------------


@both
def test_the_first_answer_is_the_baselines_bit_for_bit(make) -> None:
    model = make()
    answers = model(images(), timesteps=3)
    assert answers.shape == (4, 5, 5)
    assert torch.equal(answers[0], small()(images(), timesteps=0)[0])
    assert not torch.allclose(answers[1].softmax(-1), answers[0].softmax(-1), atol=1e-4)


def test_averaging_is_the_mean_over_the_plain_pass_and_the_noisy_ones() -> None:
    network, sigma = small(), 0.3
    answers = Averaging(network, sigma, noise_seed=7)(images(), timesteps=4)
    for row, image in enumerate(images()):
        x = (image - network.mean[0]) / network.std[0]
        probabilities = [network.network(x[None])[0].softmax(-1)]
        for t in range(1, 5):
            noise = torch.randn(1, 3, 8, 8, generator=torch_generator(7, "averaging", t, 3, 8, 8))
            probabilities.append(network.network(x[None] + sigma * noise)[0].softmax(-1))
            expected = torch.stack(probabilities).mean(0)
            torch.testing.assert_close(answers[t, row].exp(), expected, rtol=1e-5, atol=1e-6)


def test_diffusion_is_the_heat_equation_on_the_pixel_grid() -> None:
    """The matrix exponential of the Laplacian without flux at the borders, of time t sigma^2 / 2."""
    network, sigma = small(), 0.8
    model = Diffusion(network, sigma)
    laplacian = np.diag(np.full(8, -2.0)) + np.diag(np.ones(7), 1) + np.diag(np.ones(7), -1)
    laplacian[0, 0] = laplacian[-1, -1] = -1
    answers = model(images(), timesteps=4)
    for t in range(1, 5):
        heat = torch.from_numpy(expm(t * sigma**2 / 2 * laplacian)).float()
        blurred = heat @ network.normalise(images()) @ heat.T
        torch.testing.assert_close(answers[t], network.network(blurred), rtol=1e-4, atol=1e-5)


def test_a_wide_step_is_a_gaussian_filter_with_reflecting_borders() -> None:
    x = images(1, side=24).double()
    expected = np.stack([gaussian_filter(channel, 3.0, mode="reflect") for channel in x[0].numpy()])
    assert np.abs(Diffusion(small(), 3.0).step(x)[0].numpy() - expected).max() < 0.003


@settings(deadline=None, max_examples=25)
@given(sigma=st.floats(0.01, 30), side=st.integers(1, 12))
def test_a_step_keeps_the_mean_and_has_the_stated_variance(sigma: float, side: int) -> None:
    kernel = heat_kernel(sigma)
    place = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
    assert float((kernel * place.square()).sum()) == pytest.approx(sigma**2, rel=1e-4, abs=2e-7)
    x = torch.rand(1, 3, side, side, dtype=torch.float64)
    model = Diffusion(small(), sigma)
    torch.testing.assert_close(model.step(x).mean((2, 3)), x.mean((2, 3)), rtol=1e-10, atol=1e-12)


@settings(deadline=None)
@given(length=st.integers(1, 9), radius=st.integers(0, 40))
def test_borders_reflect_as_often_as_it_takes(length: int, radius: int) -> None:
    expected = np.pad(np.arange(length), radius, mode="symmetric")
    assert reflected(length, radius, torch.device("cpu")).tolist() == expected.tolist()


# --- what every model of the registry holds to -----------------------------------------------------------------------


@both
def test_an_image_gets_the_same_answer_in_every_batch(make) -> None:
    model = make()
    together = model(images(), timesteps=3)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model(images()[order], timesteps=3), together[:, order], rtol=1e-5, atol=1e-6)
    for row in range(5):
        alone = model(images()[row : row + 1], timesteps=3)
        torch.testing.assert_close(alone[:, 0], together[:, row], rtol=1e-5, atol=1e-6)


@both
def test_answers_neither_draw_from_nor_depend_on_global_random_states(make) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = make()(images(), timesteps=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(make()(images(), timesteps=3), first)
    shorter = make()(images(), timesteps=2)
    assert torch.equal(shorter, first[:3])


def test_another_noise_seed_gives_other_noise() -> None:
    one, other = (Averaging(small(), 0.3, seed)(images(), timesteps=2) for seed in (0, 1))
    assert torch.equal(one[0], other[0])
    assert not torch.allclose(one[1], other[1])


@both
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_exact(make, checkpointing: bool) -> None:
    model = make().double()
    x = images(2).double().requires_grad_()
    for at in (0, 2):
        with model.differentiated("exact", checkpointing):
            assert torch.autograd.gradcheck(model.at(at), (x,), fast_mode=True)
    with model.differentiated("exact", checkpointing):
        assert torch.autograd.gradcheck(lambda one: model(one, 2).softmax(-1).mean(0), (x,), fast_mode=True)


@both
def test_the_answer_alone_is_the_answer_of_the_unrolled_pass(make) -> None:
    model = make()
    answers = model(images(), timesteps=3)
    for t in range(4):
        assert torch.equal(model.at(t)(images()), answers[t])
    with pytest.raises(UserError, match="has no representations"):
        model.representations(images(), 2)
    with pytest.raises(UserError, match=r"images have shape \(5, 1, 8, 8\)"):
        model.at(1)(images()[:, :1])


def test_multiply_accumulates_of_every_answer() -> None:
    one = 3 * 6 * 9 * 64 + 384 * 5  # a convolution and a linear layer
    blur = 2 * len(heat_kernel(0.7)) * 3 * 64  # along both axes
    averaged, diffused = Averaging(small(), 0.3), Diffusion(small(), 0.7)
    passes = [one * (t + 1) for t in range(6)]
    assert macs_per_timestep(averaged, 5, (3, 8, 8)) == macs_unrolled(averaged, 5, (3, 8, 8)) == passes
    # an image needs no answer at 0..t-1 for the one at t
    assert macs_per_timestep(diffused, 5, (3, 8, 8)) == [one + blur * t for t in range(6)]
    assert macs_unrolled(diffused, 5, (3, 8, 8)) == [one * (t + 1) + blur * t for t in range(6)]


def test_a_blur_keeps_its_precision_under_autocast() -> None:
    model, x = Diffusion(small(), 0.7), small().normalise(images())
    with torch.autocast("cpu", torch.bfloat16):
        assert model.step(x).dtype == torch.float32
        under = model.step(x)
    assert torch.equal(under, model.step(x))


# --- by name ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("averaging:vgg16-cifar?sigma=0", "sigma is 0; it is a number greater than 0 and at most 100"),
        ("diffusion:vgg16-cifar?sigma=-1", "sigma is -1; it is a number greater than 0"),
        ("diffusion:vgg16-cifar?sigma=nan", "sigma is 'nan'; it is a number"),
        ("diffusion:vgg16-cifar?sigma=wide", "sigma is 'wide'; it is a number"),
        ("averaging:vgg16-cifar?noise_seed=1.5", "noise_seed is '1.5'; it is a whole number"),
        ("diffusion:vgg16-cifar?sigm=1", "diffusion:vgg16-cifar has no option 'sigm'; did you mean sigma?"),
        ("diffusion:vgg16-cifr", "no model 'vgg16-cifr'; did you mean vgg16-cifar"),
        ("averaging:pvgg16-cifar", "pvgg16-cifar has dynamics of its own"),
        ("averaging:diffusion:vgg16-cifar", "diffusion:vgg16-cifar has dynamics of its own"),
        ("predify:diffusion:vgg16-cifar", "diffusion:vgg16-cifar has dynamics of its own"),
        ("averaging:test_controls:with_dynamics", "test_controls:with_dynamics has dynamics of its own"),
    ],
)
def test_what_cannot_be_is_one_clear_line(name: str, line: str) -> None:
    with pytest.raises(UserError) as raised:
        load_model(name, None if "test_controls" in name else "random")
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_weights_and_baseline_are_those_of_the_network() -> None:
    spec = find("diffusion:vgg16-cifar?sigma=0.5").spec
    assert resolve("diffusion:vgg16-cifar?sigma=0.5").options == {"sigma": 0.5}
    assert (spec.family, spec.baseline, spec.timesteps) == ("control", "vgg16-cifar", 8)
    assert [entry.tag for entry in spec.weights] == [entry.tag for entry in MODELS["vgg16-cifar"].weights]
    chosen, own = resolve("averaging:vgg16-cifar@cifar10-half"), resolve("vgg16-cifar", "cifar10-half")
    assert chosen.entry == own.entry
    assert chosen.baseline == own


def test_shipped_weights_are_loaded_and_recorded() -> None:
    model, own = (
        load_model("averaging:vgg16-cifar?sigma=0.2", "cifar10-half"),
        load_model("vgg16-cifar", "cifar10-half"),
    )
    assert isinstance(model, Averaging)
    assert (model.name, model.weights, model.sigma, model.noise_seed) == (
        "averaging:vgg16-cifar", "cifar10-half", 0.2, 0,
    )  # fmt: skip
    recorded = {"wraps": "vgg16-cifar", "sigma": 0.2, "noise_seed": 0}
    assert model.provenance == {**own.provenance, **recorded}
    assert "network" in own.provenance["sha256"]  # type: ignore[operator]
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(x, timesteps=1)[0], own(x, timesteps=0)[0])


def test_the_counterparts_control_takes_the_place_of_one_without_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    chosen = resolve("diffusion:vgg16?sigma=0.6", cross=True)
    assert (chosen.name, chosen.weights, chosen.options) == ("diffusion:vgg16-cifar", "cifar10-half", {"sigma": 0.6})
    assert chosen.notices[0].startswith("diffusion:vgg16 runs as diffusion:vgg16-cifar: no weights of its own")
    with pytest.raises(UserError, match="diffusion:vgg16: no weights are at hand"):
        resolve("diffusion:vgg16")


def test_everything_about_a_control() -> None:
    about = describe_model("averaging:vgg16-cifar?sigma=0.2")
    assert about["baseline"] == "vgg16-cifar"
    assert set(about["options"]) == {"sigma", "noise_seed"}  # type: ignore[call-overload]
    assert about["parameters"] == 14_724_042


# --- a whole run -----------------------------------------------------------------------------------------------------

SUITE = """
name = "controls"
version = 1
description = "noise, and an attack through the control"

[[perturbations]]
kind = "clean"

[[perturbations]]
kind = "noise"
name = "gaussian-noise"
units = "normalised"
sigma = [0.5]

[[perturbations]]
kind = "attack"
attack = "pgd"
options = { steps = 3 }
at = [0, "T"]
epsilons = ["32/255"]

[[perturbations]]
kind = "attack"
attack = "pgd"
options = { steps = 3 }
source = "baseline"
at = [0]
epsilons = ["32/255"]
"""


def test_a_run_sets_both_beside_the_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite, folder = tmp_path / "controls.toml", tmp_path / "run"
    suite.write_text(SUITE)
    base = "test_controls:knows_samples"
    names = [base, f"averaging:{base}?sigma=0.2", f"diffusion:{base}?sigma=0.6"]
    result = run(
        model=names, suite=str(suite), data="samples", output=folder, timesteps=2, limit=10, workers=0, figures=False
    )
    records = result.records.set_index(["model", "perturbation", "image", "timestep"]).sort_index()
    clean = records.xs("clean", level="perturbation")
    assert clean.loc[base]["correct"].mean() > 0.5
    for name in names[1:]:
        for perturbation in ("clean", "gaussian-noise"):
            first = records.loc[(name, perturbation)].xs(0, level="timestep")
            feedforward = records.loc[(base, perturbation)].xs(0, level="timestep")
            columns = ["prediction", "confidence", "nll"]
            pd.testing.assert_frame_equal(first[columns], feedforward[columns])
        attacked = result.records[(result.records["model"] == name) & (result.records["attack"] == "pgd")]
        last = attacked[(attacked["at"].astype(int) == 2) & (attacked["source"] == "") & (attacked["timestep"] == 2)]
        assert last["attacked"].astype(bool).any()
        assert last["correct"].mean() < clean.loc[name].xs(2, level="timestep")["correct"].mean()
    cells = {cell.key.model.label: cell for cell in result.study.cells}
    plain = cells[base].key.model
    for name, family, baseline, timesteps in zip(
        names, ("foreign", "control", "control"), (None, plain, plain), (0, 2, 2), strict=True
    ):
        cell = cells[name]
        assert cell.provenance["model"]["family"] == family
        assert (cell.key.model.baseline, cell.key.timesteps) == (baseline, timesteps)
    assert cells[names[2]].provenance["model"]["provenance"] == {"wraps": base, "sigma": 0.6}
    cost = pd.read_csv(folder / "cost.csv").set_index(["model", "timestep"])
    once = float(cost.loc[(base, 0), "gmacs"])
    assert cost.loc[(names[1], 2), "gmacs"] == pytest.approx(3 * once, rel=1e-4)
    assert cost.loc[(names[2], 2), "gmacs"] < cost.loc[(names[2], 2), "gmacs_unrolled"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main(["compare", str(folder), "--output", str(tmp_path / "comparison")])
    shown = capsys.readouterr()
    assert not done.value.code, shown.err
    text = " ".join(shown.out.split())
    for name in names[1:]:
        assert name in text
