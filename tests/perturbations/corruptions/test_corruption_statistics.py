"""Random corruptions have the target's statistics: mean RMSE to clean, histograms of change, spectra.

The target is the reference package, but for elastic_transform and frost, which differ there from ImageNet-C: these are
held against a literal implementation with random numbers of NumPy's.
"""

from importlib.resources import files

import cv2
import numpy as np
import originals
import pytest
from scipy.stats import chi2_contingency

from pcbench.perturbations.corruptions import SEVERITIES, corrupt
from pcbench.perturbations.corruptions.constants import CONSTANTS

# How many times each image is corrupted anew, so that the difference of two means has a standard error below 1 %. A
# single map of fog changes an image's RMSE by 15 %.
DRAWS = {"fog": 40, "motion_blur": 2}
TEXTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


def corrupted(images, name, severity, draws, backend="native"):
    return np.stack([corrupt(images, name, severity, seed=seed, backend=backend) for seed in range(draws)])


def rmse(made, clean):
    return np.sqrt(((made.astype(np.float32) - clean) ** 2).mean((-3, -2, -1))).mean()


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    "name",
    ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur", "motion_blur", "snow", "spatter"],
)
def test_mean_rmse_is_that_of_the_reference(photographs, name, severity):
    draws = DRAWS.get(name, 1)
    ours, theirs = (
        rmse(corrupted(photographs, name, severity, draws, backend), photographs) for backend in ("native", "reference")
    )
    assert ours == pytest.approx(theirs, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("severity", SEVERITIES)
def test_mean_rmse_of_fog_is_that_of_the_reference(photographs, severity):
    ours, theirs = (
        rmse(corrupted(photographs, "fog", severity, DRAWS["fog"], backend), photographs)
        for backend in ("native", "reference")
    )
    assert ours == pytest.approx(theirs, rel=0.03)


@pytest.fixture(scope="module")
def textures():
    folder = files("imagecorruptions") / "frost"  # those of the package: ours are the same files
    return [cv2.imread(str(folder / name))[..., ::-1] for name in TEXTURES]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_mean_rmse_of_frost_is_that_of_the_original_over_all_textures(photographs, textures, severity):
    images = photographs[:10]
    generator = np.random.default_rng(severity)
    c = CONSTANTS["imagenet-c"]["frost"][severity - 1]
    expected = []
    for texture in textures:  # each as often as any other, so that their choice adds no spread
        for _ in range(2):
            corners = [generator.integers(0, np.array(texture.shape[:2]) - 224) for _ in images]
            made = [originals.frost(x, c, texture, *corner) for x, corner in zip(images, corners, strict=True)]
            expected.append(rmse(np.stack(made), images))
    ours = rmse(corrupted(images, "frost", severity, 80), images)
    assert ours == pytest.approx(np.mean(expected), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("severity", SEVERITIES)
def test_mean_rmse_of_elastic_transform_is_that_of_the_original(photographs, severity):
    ours = rmse(corrupted(photographs, "elastic_transform", severity, 8), photographs)
    theirs = np.mean([rmse(elastic(photographs, severity, seed), photographs) for seed in range(2)])
    assert ours == pytest.approx(theirs, rel=0.03)


def elastic(images, severity, seed):
    generator = np.random.default_rng([seed, severity])
    c = CONSTANTS["imagenet-c"]["elastic_transform"][severity - 1][:3]
    size = images.shape[1]
    return np.stack(
        [
            originals.elastic(x, c, generator.uniform(-1, 1, (3, 2)), *generator.uniform(-1, 1, (2, size, size)))
            for x in images
        ]
    )


# --- histograms of the noises: how often each change of grey level occurs ---


def same_histogram(first, second, clean):
    """p of a chi-square test that two corrupted sets have the same chances of each change, in four ranges of grey."""
    chances = []
    for low in range(0, 256, 64):
        where = (clean >= low) & (clean < low + 64)
        counts = np.stack([np.bincount(made[where].astype(int) - clean[where] + 255, minlength=511)
                           for made in (first, second)])  # fmt: skip
        rare = counts.sum(0) < 40
        counts = np.column_stack([counts[:, ~rare], counts[:, rare].sum(1)])
        chances.append(chi2_contingency(counts[:, counts.sum(0) > 0]).pvalue)
    return min(chances) * 4


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
def test_histograms_of_noise_are_those_of_the_reference(photographs, name, severity):
    images = photographs[:6]
    ours, theirs = (corrupt(images, name, severity, backend=backend) for backend in ("native", "reference"))
    assert same_histogram(ours, theirs, images) > 1e-3


def test_histograms_tell_noise_of_four_percent_more(photographs):
    images = photographs[:6]
    generator = np.random.default_rng(0)
    louder = np.clip(images + 255 * 0.18 * 1.04 * generator.standard_normal(images.shape), 0, 255).astype(np.uint8)
    assert same_histogram(louder, corrupt(images, "gaussian_noise", 3), images) < 1e-3


# --- spectra of the change, where neighbouring pixels change together ---


def spectrum(made, clean):
    """(6,): mean logarithm of the power of the change at 2-3, 4-7, ... 64-127 waves an image, in any direction."""
    change = (made.astype(np.float32) - clean).mean(-1)
    power = np.abs(np.fft.fft2(change)) ** 2
    frequency = np.fft.fftfreq(change.shape[-1]) * change.shape[-1]
    ring = np.log2(np.maximum(np.hypot(frequency[:, None], frequency), 1)).astype(int)
    bands = [np.log(power[..., ring == i].mean(-1)).mean() for i in range(1, 7)]
    return np.array(bands)


@pytest.mark.parametrize(("name", "draws"), [("snow", 2), ("motion_blur", 2), ("glass_blur", 1), ("spatter", 2)])
def test_spectra_are_those_of_the_reference(photographs, name, draws):
    images = photographs[:10]
    ours, theirs = (spectrum(corrupted(images, name, 3, draws, backend), images) for backend in ("native", "reference"))
    assert np.abs(ours - theirs).max() < 0.15, ours - theirs


def test_spectrum_of_fog_on_grey_is_that_of_the_reference():
    grey = np.full((16, 224, 224, 3), 128, np.uint8)  # the change is the map of fog and nothing else
    theirs = spectrum(corrupted(grey, "fog", 3, 4, "reference"), grey)
    assert np.abs(spectrum(corrupted(grey, "fog", 3, 4), grey) - theirs).max() < 0.15
    assert np.abs(spectrum(corrupted(grey, "fog", 4, 4), grey) - theirs).max() > 0.3


@pytest.mark.slow
def test_spectrum_of_elastic_transform_is_that_of_the_original(photographs):
    ours = spectrum(corrupted(photographs, "elastic_transform", 3, 12), photographs)
    theirs = spectrum(np.stack([elastic(photographs, 3, seed) for seed in range(4)]), photographs)
    assert np.abs(ours - theirs).max() < 0.15, ours - theirs


def test_spectra_tell_severities_apart(photographs):
    images = photographs[:10]
    for name in ("snow", "motion_blur", "glass_blur", "spatter"):
        here, there = (spectrum(corrupted(images, name, severity, 2), images) for severity in (1, 3))
        assert np.abs(here - there).max() > 0.3
