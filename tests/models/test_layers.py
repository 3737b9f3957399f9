"""Sparsity and signal to noise of the VGG16 family, against passes by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

import pcbench
from pcbench.cli.app import main
from pcbench.errors import UserError
from pcbench.models.hah import HaHBlock
from pcbench.models.layers import layer_diagnostics
from pcbench.randomness import normal_like

IDS = ["a", "b", "c"]


def test_first_layers_by_hand() -> None:
    model = pcbench.load_model("hah-vgg16?width=0.1", "random")
    images = torch.rand(3, 3, 32, 32)
    table = layer_diagnostics(model, [(IDS[:2], images[:2]), (IDS[2:], images[2:])], [0.1, 0.2], seed=5)
    assert list(table.columns) == ["layer", "block", "sigma", "snr_db", "active", "active_noisy"]
    assert len(table) == 26
    assert list(table["block"][:13]) == ["HaHBlock"] * 6 + ["VGGBlock"] * 7
    noise = normal_like(images, 5, IDS, "layer diagnostics", 0.2)
    noisy = (images + 0.2 * noise).clamp(0, 1)
    x, y = model.normalise(images), model.normalise(noisy)
    layer = 0
    for module in model.network.features:
        if isinstance(module, HaHBlock):
            layer += 1
            ratios = [float((x[i] ** 2).sum() / ((y[i] - x[i]) ** 2).sum()) for i in range(3)]
            row = table[(table["layer"] == layer) & (table["sigma"] == 0.2)].iloc[0]
            assert row["snr_db"] == pytest.approx(10 * np.log10(np.mean(ratios)), rel=1e-4)
            assert row["active"] == pytest.approx(float((module(x) > 0).float().mean()), rel=1e-5)
            assert row["active_noisy"] == pytest.approx(float((module(y) > 0).float().mean()), rel=1e-5)
        x, y = module(x), module(y)
    assert layer == 6


def test_hah_blocks_are_sparse_and_noise_grows() -> None:
    model = pcbench.load_model("hah-vgg16?width=0.1", "random")
    table = layer_diagnostics(model, [(IDS, torch.rand(3, 3, 32, 32))], [0.05, 0.2])
    hah = table[table["block"] == "HaHBlock"]
    assert (hah["active"] <= 0.21).all()
    quiet, loud = (hah[hah["sigma"] == sigma]["snr_db"].to_numpy() for sigma in (0.05, 0.2))
    assert (quiet > loud).all()


def test_batches_do_not_matter_and_no_hook_is_left() -> None:
    model = pcbench.load_model("vgg16-cifar?width=0.1", "random")
    images = torch.rand(3, 3, 32, 32)
    whole = layer_diagnostics(model, [(IDS, images)], [0.1])
    single = layer_diagnostics(model, [([name], images[i : i + 1]) for i, name in enumerate(IDS)], [0.1])
    np.testing.assert_allclose(whole["snr_db"], single["snr_db"], rtol=1e-4)
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_what_cannot_be_diagnosed_is_refused() -> None:
    model = pcbench.load_model("cornet-rt-cifar?width=0.1", "random")
    with pytest.raises(UserError, match="cornet-rt-cifar has no layers of the VGG16 family"):
        layer_diagnostics(model, [], [0.1])
    model = pcbench.load_model("vgg16-cifar?width=0.1", "random")
    with pytest.raises(UserError, match="numbers above 0"):
        layer_diagnostics(model, [], [0.0])


def test_command_writes_table_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "images.npz"
    np.savez(path, x_test=rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8), y_test=np.arange(10))
    words = ["diagnose", "vgg16-cifar?width=0.1", "hah-vgg16?width=0.1", "--weights", "random", "--data", str(path)]
    with pytest.raises(SystemExit) as exit_:
        main([*words, "--output", str(tmp_path / "out")])
    assert exit_.value.code == 0
    assert "HaHBlock" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "out").iterdir()} >= {"layers.csv", "layers.png"}
