"""Severities that are made together: each as it is alone, and their common work done once."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcbench.errors import UserError
from pcbench.perturbations.corruptions import NAMES, SEVERITIES, blur, corrupt, corrupt_severities, digital, weather
from pcbench.perturbations.corruptions.constants import CONSTANTS

IDS = ["a", "b"]
CASES = [("imagenet-c", (64, 48)), ("cifar-c", (32, 32))]


@lru_cache
def images(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)


@lru_cache
def alone(name: str, severity: int, variant: str, size: tuple[int, int]) -> np.ndarray:
    return corrupt(images(size), name, severity, seed=3, ids=IDS, variant=variant)


@pytest.mark.parametrize(("variant", "size"), CASES)
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(severities=st.lists(st.sampled_from(SEVERITIES), max_size=6))
def test_any_severities_in_any_order_give_the_bits_that_they_give_alone(name, variant, size, severities):
    made = corrupt_severities(images(size), name, severities, seed=3, ids=IDS, variant=variant)
    assert len(made) == len(severities)
    for severity, found in zip(severities, made, strict=True):
        np.testing.assert_array_equal(found, alone(name, severity, variant, size))


@pytest.mark.parametrize("name", ["zoom_blur", "snow", "saturate"])
def test_portions_of_a_batch_do_not_show(name, monkeypatch):
    whole = corrupt_severities(images((64, 48)), name, SEVERITIES, ids=IDS)
    monkeypatch.setattr("pcbench.perturbations.corruptions.native._PORTION_CPU", 1)
    for one, other in zip(corrupt_severities(images((64, 48)), name, SEVERITIES, ids=IDS), whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [(64, 48), (32, 32)])
def test_other_devices_make_the_same_together_as_alone(size, monkeypatch):
    for module in ("linear", "pictures", "zoom", "blur"):
        home = __import__(f"pcbench.perturbations.corruptions.{module}", fromlist=["on_cpu"])
        monkeypatch.setattr(home, "on_cpu", lambda x: False)
    for name in ("zoom_blur", "brightness", "gaussian_blur"):
        for severity, found in zip(SEVERITIES, corrupt_severities(images(size), name, SEVERITIES), strict=True):
            np.testing.assert_array_equal(found, corrupt(images(size), name, severity))


@pytest.mark.parametrize(("variant", "size"), CASES)
def test_each_enlargement_of_zoom_blur_is_made_once(variant, size, monkeypatch):
    factors, added = [], []
    add = blur.add_zoomed

    def count(totals, which, x, factor):
        factors.append(factor)
        added.append(len(which))
        add(totals, which, x, factor)

    monkeypatch.setattr(blur, "add_zoomed", count)
    corrupt_severities(images(size), "zoom_blur", SEVERITIES, variant=variant)
    wanted = [np.arange(1, *constants)[1:].tolist() for constants in CONSTANTS[variant]["zoom_blur"]]
    assert factors == sorted({factor for each in wanted for factor in each})
    assert len(factors) < sum(added) == sum(map(len, wanted))


@pytest.mark.parametrize(
    ("name", "module", "common"),
    [
        ("snow", weather, "white"),
        ("fog", weather, "maximum"),
        ("frost", weather, "floats"),
        ("brightness", weather, "value"),
        ("contrast", digital, "means"),
        ("saturate", digital, "saturation"),
        ("pixelate", digital, "of_pillow"),
        ("jpeg_compression", digital, "of_pillow"),
        ("motion_blur", blur, "floats"),
    ],
)
def test_what_no_severity_changes_is_computed_once(name, module, common, monkeypatch):
    calls, work = [], getattr(module, common)

    def count(pictures):
        calls.append(pictures)
        return work(pictures)

    monkeypatch.setattr(module, common, count)
    corrupt_severities(images((64, 48)), name, SEVERITIES)
    assert len(calls) == 1
    corrupt(images((64, 48)), name, 1)
    assert len(calls) == 2


def test_forms_and_errors_are_those_of_one_severity():
    tensor = torch.from_numpy(images((32, 32)))
    assert all(isinstance(made, torch.Tensor) for made in corrupt_severities(tensor, "fog", [1, 2]))
    assert [made.shape for made in corrupt_severities(tensor[:0], "fog", [1, 2], jpeg85=True)] == [(0, 32, 32, 3)] * 2
    two = corrupt_severities(images((32, 32)), "contrast", [4, 2], backend="reference", jpeg85=True)
    for severity, found in zip([4, 2], two, strict=True):
        expected = corrupt(images((32, 32)), "contrast", severity, backend="reference", jpeg85=True)
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(UserError, match="from 1 to 5, not 6"):
        corrupt_severities(tensor, "fog", [1, 6])
