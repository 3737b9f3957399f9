"""An image's corruption depends on seed, id, corruption and severity alone, and every form of a primitive agrees."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

import pcbench.perturbations.corruptions as corruptions
from pcbench.errors import UserError
from pcbench.perturbations.corruptions import BACKENDS, NAMES, corrupt

IDS = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_permuted_and_split_batches_give_the_same_bits(images, name, backend):
    images = images[:, :40, :40]
    whole = corrupt(images, name, 3, seed=1, ids=IDS, backend=backend)
    order = [3, 0, 4, 1, 2]
    permuted = corrupt(images[order], name, 3, seed=1, ids=[IDS[i] for i in order], backend=backend)
    assert np.array_equal(permuted, whole[order])
    single = [corrupt(images[i : i + 1], name, 3, seed=1, ids=[IDS[i]], backend=backend)[0] for i in range(5)]
    assert np.array_equal(np.stack(single), whole)


def _all(images):
    return [corrupt(images, name, 2) for name in NAMES]


def test_processes_draw_the_same(images):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for made in pool.map(_all, [images, images]):
            assert all(np.array_equal(a, b) for a, b in zip(made, _all(images), strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(40, 48), (32, 32)])
def test_torch_forms_agree_with_compiled_loops_to_one_grey_level(images, name, size, monkeypatch):
    part = images[:, : size[0], : size[1]]
    compiled = corrupt(part, name, 3)
    for module in ("draws", "linear", "pictures", "warp", "zoom", "blur", "noise", "weather"):
        home = __import__(f"pcbench.perturbations.corruptions.{module}", fromlist=["on_cpu"])
        monkeypatch.setattr(home, "on_cpu", lambda x: False)
    difference = np.abs(corrupt(part, name, 3).astype(int) - compiled)
    assert (difference <= 1).mean() > 0.999


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares with a CUDA device; this machine has none")
@pytest.mark.parametrize("name", NAMES)
def test_cuda_agrees_with_the_cpu_to_one_grey_level(images, name):
    on_gpu = corrupt(torch.from_numpy(images).cuda(), name, 3).cpu().numpy()
    assert (np.abs(on_gpu.astype(int) - corrupt(images, name, 3)) <= 1).mean() > 0.999


FIXED = {"defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "saturate", "contrast", "pixelate"}
RANDOM = sorted(set(NAMES) - FIXED - {"jpeg_compression"})


@pytest.mark.parametrize("name", RANDOM)
def test_seed_and_id_change_what_is_drawn(images, name):
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    made = [corrupt(image, name, 3, seed=seed, ids=[i]) for seed, i in ((0, "a"), (1, "a"), (0, "b"))]
    assert not np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_the_global_generators_are_left_alone(images):
    np.random.seed(3)  # noqa: NPY002 - the global generator is what is watched
    torch.manual_seed(3)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state = torch.get_rng_state()
    for backend in BACKENDS:
        corrupt(images[:1], "glass_blur", 1, backend=backend)
        corrupt(images[:1], "snow", 1, backend=backend)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_tensors_and_arrays_keep_their_form(images):
    tensor = corrupt(torch.from_numpy(images), "fog", 2)
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), corrupt(images, "fog", 2))
    assert corrupt(images[:0], "fog", 2).shape == (0, 40, 48, 3)
    assert np.array_equal(corrupt(images, "fog", 2), corrupt(images, "fog", 2, ids=range(5)))


def test_small_images_take_the_constants_of_cifar_c(images):
    small = images[:, :32, :32]
    auto = corrupt(small, "gaussian_noise", 5)
    assert np.array_equal(auto, corrupt(small, "gaussian_noise", 5, variant="cifar-c"))
    assert not np.array_equal(auto, corrupt(small, "gaussian_noise", 5, variant="imagenet-c"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "gausian_noise"}, "did you mean gaussian_noise"),
        ({"severity": 0}, "from 1 to 5"),
        ({"severity": 6}, "from 1 to 5"),
        ({"severity": 2.5}, "from 1 to 5"),
        ({"severity": True}, "from 1 to 5"),
        ({"images": np.zeros((1, 40, 40, 3), np.float32)}, "uint8 in 0..255, not float32"),
        ({"images": np.zeros((1, 40, 40, 4), np.uint8)}, r"\(B, H, W, 3\)"),
        ({"images": np.zeros((40, 40, 3), np.uint8)}, r"\(B, H, W, 3\)"),
        ({"images": np.zeros((1, 31, 40, 3), np.uint8)}, "at least 32 x 32"),
        ({"images": [[0]]}, "not list"),
        ({"ids": ["a"]}, "5 images need 5 ids, not 1"),
        ({"backend": "natve"}, "did you mean native"),
        ({"frost_textures": 7}, "5 textures, as in ImageNet-C, or 6, not 7"),
        ({"frost_textures": 6, "backend": "reference"}, "chooses frost's textures by itself"),
        ({"variant": "cifar"}, "did you mean cifar-c"),
        ({"variant": "cifar-c", "backend": "reference"}, "ImageNet-C's constants only"),
    ],
)
def test_bad_input_is_one_clear_line(images, change, message):
    arguments = {"images": images, "name": "fog", "severity": 1, **change}
    with pytest.raises(UserError, match=message) as error:
        corruptions.corrupt(arguments.pop("images"), arguments.pop("name"), arguments.pop("severity"), **arguments)
    assert "\n" not in str(error.value)
