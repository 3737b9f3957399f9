"""The manifold experiment: distances between noisy and clean representations, per PCoder and timestep."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pcbench.harness.evaluate import correlation
from pcbench.harness.run import run

SUITE = """
name = "small-manifold"
version = 1
description = "two sigmas"
measure = "representations"

[[perturbations]]
kind = "noise"
sigma = [0.0, 0.5]
"""


def test_correlation_is_pearsons() -> None:
    x, y = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    expected = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    np.testing.assert_allclose(correlation(x, y), expected, atol=1e-5)


def test_distances_equal_those_of_two_separate_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pcbench.data.geometry import Geometry
    from pcbench.data.registry import load_data
    from pcbench.models.resolve import load_model
    from pcbench.randomness import normal_like

    (tmp_path / "suite.toml").write_text(SUITE)
    name = "pvgg16-cifar"
    result = run(
        name, str(tmp_path / "suite.toml"), "samples-cifar10", tmp_path / "run", weights="random", timesteps=2, limit=3,
        batch_size=2, workers=0, figures=False,
    )  # fmt: skip
    table = result.results.runs[0].extra("representations")
    assert len(table) == 2 * 3 * 5 * 3  # sigmas x images x PCoders x timesteps
    assert table.loc[table["severity"] == 0, "distance"].abs().max() < 1e-4

    model, images = load_model(name, "random"), load_data("samples-cifar10")
    index = images.ids.index(table["image"].iloc[0])
    pixels = np.array(Geometry.of(model.preprocessing).prepare(images.read(index)))
    clean = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    noisy = clean + 0.5 * model.std * normal_like(clean, 0, [images.ids[index]], "gaussian-noise")
    with torch.no_grad():
        for t, (one, other) in enumerate(
            zip(model.representations(noisy, 2), model.representations(clean, 2), strict=True)
        ):
            for n, (e, e_clean) in enumerate(zip(one[1], other[1], strict=True), start=1):
                expected = 1 - np.corrcoef(e.flatten().numpy(), e_clean.flatten().numpy())[0, 1]
                rows = table[(table["image"] == images.ids[index]) & (table["severity"] == 0.5)]
                found = rows[(rows["pcoder"] == n) & (rows["timestep"] == t)]["distance"]
                assert found.item() == pytest.approx(expected, abs=1e-4)


def test_the_clean_pass_runs_once_for_all_sigmas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pcbench.models.predictive.classifier import PredictiveClassifier

    passes: list[int] = []
    original = PredictiveClassifier.representations

    def counted(self: PredictiveClassifier, images: torch.Tensor, timesteps: int) -> object:
        passes.append(len(images))
        return original(self, images, timesteps)

    monkeypatch.setattr(PredictiveClassifier, "representations", counted)
    (tmp_path / "suite.toml").write_text(SUITE.replace("[0.0, 0.5]", "[0.1, 0.2, 0.3, 0.4]"))
    run(
        "pvgg16-cifar", str(tmp_path / "suite.toml"), "samples-cifar10", tmp_path / "run", weights="random",
        timesteps=1, limit=4, batch_size=4, workers=0, figures=False,
    )  # fmt: skip
    assert passes == [4] * (4 + 1)  # one clean pass and one a sigma
