"""What the native engine matches: the reference, or a literal implementation given the same random numbers."""

import numpy as np
import originals
import pytest
import torch
from scipy.stats import poisson

from pcbench.perturbations.corruptions import SEVERITIES, corrupt, weather
from pcbench.perturbations.corruptions.constants import CONSTANTS
from pcbench.perturbations.corruptions.draws import Draws, philox
from pcbench.perturbations.corruptions.noise import poisson_table
from pcbench.perturbations.corruptions.weather import frost_texture

CASES = [("imagenet-c", 64), ("cifar-c", 32)]
CPU = torch.device("cpu")


def close(ours, literal, share=0.999):
    difference = np.abs(ours.astype(int) - np.clip(literal, 0, 255).astype(np.uint8))
    assert (difference <= 1).mean() >= share, (difference.max(), (difference <= 1).mean())


def case(photographs, name, severity, variant, size):
    images = photographs[:2, 80 : 80 + size, 60 : 60 + size].copy()
    draws = Draws.for_images(5, ["a", "b"], name, severity, CPU)
    ours = corrupt(images, name, severity, seed=5, ids=["a", "b"], variant=variant)
    return images, ours, draws, CONSTANTS[variant][name][severity - 1]


@pytest.mark.parametrize("name", ["defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "saturate", "contrast"])
def test_deterministic_corruptions_agree_with_the_reference_to_one_grey_level(photographs, name):
    images = photographs[:2]
    for severity in SEVERITIES:
        close(corrupt(images, name, severity), corrupt(images, name, severity, backend="reference"))


@pytest.mark.parametrize("name", ["pixelate", "jpeg_compression"])
def test_pixelate_and_jpeg_agree_bit_for_bit(photographs, name):
    for severity in SEVERITIES:
        ours = corrupt(photographs[:3], name, severity)
        assert np.array_equal(ours, corrupt(photographs[:3], name, severity, backend="reference"))


@pytest.mark.parametrize("name", ["defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "saturate", "contrast"])
def test_deterministic_corruptions_with_the_constants_of_cifar_c(photographs, name):
    for severity in SEVERITIES:
        images, ours, _, c = case(photographs, name, severity, "cifar-c", 32)
        for b in range(2):
            close(ours[b], originals.deterministic(images[b], name, c), share=0.999)


@pytest.mark.parametrize("name", ["pixelate", "jpeg_compression"])
def test_pixelate_and_jpeg_with_the_constants_of_cifar_c(photographs, name):
    for severity in SEVERITIES:
        images, ours, _, c = case(photographs, name, severity, "cifar-c", 32)
        for b in range(2):
            assert np.array_equal(ours[b], originals.through_pillow(images[b], name, c))


def test_philox_gives_the_published_words():
    assert [f"{w & 0xFFFFFFFF:08x}" for w in philox(torch.zeros(1, dtype=torch.int64), 4, 0)[0].tolist()] == [
        "6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8",
    ]  # fmt: skip


@pytest.mark.parametrize(("variant", "size"), CASES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_given_the_same_draws(photographs, variant, size, severity):
    for name in ("gaussian_noise", "speckle_noise", "impulse_noise"):
        images, ours, draws, (c,) = case(photographs, name, severity, variant, size)
        x = images / 255.0
        if name == "impulse_noise":
            words = draws.words(images.shape[1:]).numpy().view(np.uint32)
            literal = np.where(words // 2 / 2**31 < c, words % 2, x)
        else:
            z = draws.normal(images.shape[1:]).numpy().astype(np.float64) * c
            literal = x + (z if name == "gaussian_noise" else x * z)
        close(ours, np.clip(literal, 0, 1) * 255)


@pytest.mark.parametrize("photons", [3, 12, 60, 75, 500])
def test_shot_noise_tables_hold_the_poisson_distribution(photons):
    table = poisson_table(photons)
    unit = 2**32 / table.columns
    for grey in (0, 1, 77, 200, 255):
        cells = slice(grey * table.columns, (grey + 1) * table.columns)
        own = table.thresholds[cells].numpy() / unit / table.columns
        chances = np.zeros(256)
        np.add.at(chances, table.own.numpy(), own)
        np.add.at(chances, table.alias[cells].numpy(), 1 / table.columns - own)
        k = np.arange(photons)
        expected = np.zeros(256)
        np.add.at(expected, (k / photons * 255).astype(np.uint8), poisson.pmf(k, grey / 255 * photons))
        expected[255] += poisson.sf(photons - 1, grey / 255 * photons)
        assert np.abs(chances - expected).max() < 1e-6


@pytest.mark.parametrize(("variant", "size"), CASES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_copies_as_the_swap_through_views_does(photographs, variant, size, severity):
    images, ours, draws, (sigma, reach, rounds) = case(photographs, "glass_blur", severity, variant, size)
    reach = int(reach)
    words = [draws.words((size, size), i).numpy().view(np.uint32).astype(np.int64) for i in range(int(rounds))]
    for b in range(2):
        offsets = [np.stack([w[b] % 2**16, w[b] >> 16], -1) * 2 * reach // 2**16 - reach for w in words]
        close(ours[b], originals.glass(images[b], (sigma, reach, int(rounds)), offsets))


@pytest.mark.parametrize(("variant", "size"), CASES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_weather_and_motion_given_the_same_draws(photographs, variant, size, severity):
    for name in ("motion_blur", "snow", "fog", "frost", "spatter"):
        images, ours, draws, c = case(photographs, name, severity, variant, size)
        scalars = draws.scalars(3)
        for b in range(2):
            if name == "motion_blur":
                literal = originals.motion(images[b], int(c[0]), c[1], scalars[b, 0] * 90 - 45)
            elif name == "snow":
                field = draws.normal((size, size)).numpy()[b].astype(np.float64)
                literal = originals.snow(images[b], (*c[:4], int(c[4]), *c[5:]), field, scalars[b, 0] * 90 - 135)
            elif name == "fog":
                literal = originals.fog(images[b], c, draws.uniform((size, size)).numpy()[b].astype(np.float64))
            elif name == "spatter":
                literal = originals.spatter(images[b], c, draws.normal((size, size)).numpy()[b].astype(np.float64))
            else:
                texture = frost_texture(int(scalars[b, 0] * 5), size, size).numpy()
                y, x = (int(s * (n - size)) for s, n in zip(scalars[b, 1:], texture.shape[:2], strict=True))
                literal = originals.frost(images[b], c, texture, y, x)
            close(ours[b], literal)


@pytest.mark.parametrize(("variant", "size"), CASES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform_given_the_same_draws(photographs, variant, size, severity):
    images, ours, draws, c = case(photographs, "elastic_transform", severity, variant, size)
    scaled = tuple(v * size / c[3] for v in c[:3])
    fields = draws.uniform((size, size, 2)).numpy().astype(np.float64)
    for b in range(2):
        shifts = (draws.scalars(6)[b] * 2 - 1).reshape(3, 2)
        close(ours[b], originals.elastic(images[b], scaled, shifts, *np.moveaxis(fields[b], 2, 0)))


def test_the_sixth_frost_texture_is_drawn_only_on_demand(photographs, monkeypatch):
    drawn = []
    texture = weather.frost_texture
    monkeypatch.setattr(weather, "frost_texture", lambda which, *size: drawn.append(which) or texture(which, *size))
    images = np.broadcast_to(photographs[:1, :64, :64], (100, 64, 64, 3)).copy()
    corrupt(images, "frost", 1)
    assert set(drawn) == set(range(5))
    corrupt(images, "frost", 1, frost_textures=6)
    assert set(drawn) == set(range(6))
