"""Keyed random streams: every bit of a key counts, every type of number is the same number, nothing global moves."""

import random

import numpy as np
import pytest
import torch
from torch import nn

import pcbench
from pcbench.errors import UserError
from pcbench.randomness import global_stream, key, normal_like, reset_parameters, torch_generator


@pytest.mark.parametrize("one", [np.int64(1), np.uint8(1), np.int32(1), torch.tensor(1), np.array(1)])
def test_whole_numbers_of_all_types_are_the_same(one: object) -> None:
    assert key(one, "a") == key(1, "a")  # type: ignore[arg-type]
    assert key(1, "a") != key(1.0, "a")


def test_numpy_s_text_and_floats_are_python_s() -> None:
    assert key(np.str_("a"), np.float64(0.5), np.float32(0.5)) == key("a", 0.5, 0.5)


@pytest.mark.parametrize("part", [True, np.bool_(True), None, torch.tensor(1.5), [1]])
def test_what_is_no_number_is_refused(part: object) -> None:
    with pytest.raises(UserError, match="a seed is a whole number"):
        key(part)  # type: ignore[arg-type]


def test_a_corrupted_image_is_the_same_for_every_type_of_seed() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    expected = pcbench.corrupt(images, "gaussian_noise", 3, seed=1)
    assert np.array_equal(pcbench.corrupt(images, "gaussian_noise", 3, seed=np.int64(1)), expected)


def test_keys_that_agree_in_32_bits_give_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for stream in (5, 5 + 2**32, 5 + 2**62):
        monkeypatch.setattr("pcbench.randomness.key", lambda *_, stream=stream: stream)
        drawn.append(torch.randn(8, generator=torch_generator("any")))
        with global_stream("any"):
            assert torch.equal(torch.randn(8), drawn[-1])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_stream_is_mt19937_from_the_words_of_the_key() -> None:
    """Held against NumPy's own, so that another version of torch with another state cannot pass unseen."""
    reference = np.random.MT19937()
    words = np.random.Philox(key("stream", 7)).random_raw(312).view(np.uint32)
    reference.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    generator = torch_generator("stream", 7)
    found = torch.randint(0, 2**16, (1500,), generator=generator)
    assert found.tolist() == (reference.random_raw(1500) % 2**16).tolist()


def test_normal_noise_is_normal_and_belongs_to_its_image() -> None:
    images = torch.zeros(3, 3, 64, 64)
    noise = normal_like(images, 0, ["a", "b", "c"], "test")
    assert torch.equal(normal_like(images[:1], 0, ["b"], "test")[0], noise[1])
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1) < 0.01
    assert abs(float(torch.corrcoef(noise.flatten(1))[0, 1])) < 0.03


def test_parameters_are_drawn_anew_in_place_and_the_global_generators_stay() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 3, 3))
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 3, 3))
    other = other.to(memory_format=torch.channels_last)
    parameters = list(module.parameters())
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    reset_parameters(module, 0, "feedback weights")
    reset_parameters(other, 0, "feedback weights")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]  # noqa: NPY002
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))
    reset_parameters(other, 1, "feedback weights")
    assert not torch.equal(module[0].weight, other[0].weight)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_parameters_on_cuda_are_those_on_the_cpu() -> None:
    here, there = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3).cuda()
    before = torch.cuda.get_rng_state()
    reset_parameters(here, "any")
    reset_parameters(there, "any")
    assert torch.equal(there.weight.cpu(), here.weight)
    assert torch.equal(torch.cuda.get_rng_state(), before)
