"""Random noise of the norm of an attack."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_network import context, network, task

from pcbench.errors import UserError
from pcbench.perturbations.attacks.ball import distance, project
from pcbench.perturbations.noise_control import NoiseControl, add_noise

CASES = [(noise, norm) for noise in ("uniform", "gaussian", "salt-and-pepper") for norm in ("linf", "l2")]


@pytest.mark.parametrize(("noise", "norm"), [*CASES, ("salt-and-pepper", "l0")])
@given(epsilon=st.floats(0.01, 0.4), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_noise_has_the_norm_it_is_asked_for_after_clipping(noise: str, norm: str, epsilon: float, seed: int) -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    image = images[0]
    generators = [torch.Generator().manual_seed(seed + i) for i in range(2)]
    found = add_noise(images, noise, norm, epsilon, generators)[0]
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    size = float(distance(found[None], image[None], norm))
    assert size <= epsilon * (1 + 1e-5) + 1.2e-7
    if noise != "salt-and-pepper":
        assert size == pytest.approx(epsilon, rel=1e-3)
    elif norm == "l0":
        assert size >= epsilon - 1 / 256 - 1e-6


def test_noise_depends_on_the_image_id_and_grows_with_epsilon_along_one_pattern() -> None:
    images, labels = task(3, seed=3)
    found = {}
    for epsilon in (0.01, 0.02):
        table = {"kind": "noise-control", "noises": ["uniform"], "epsilons": [epsilon]}
        (condition,) = NoiseControl.conditions("test", table)
        found[epsilon] = NoiseControl(condition).on_float(images, context(network(), labels)).images
        alone = NoiseControl(condition).on_float(images[2:], context(network(), labels[2:], ["image-2"])).images
        assert torch.equal(alone[0], found[epsilon][2])
    inside = (found[0.02] > 0) & (found[0.02] < 1)
    torch.testing.assert_close((found[0.02] - images)[inside], 2 * (found[0.01] - images)[inside], atol=1e-6, rtol=0)


def settle(table: dict[str, object]) -> None:
    for condition in NoiseControl.conditions("test", {"kind": "noise-control", **table}):
        NoiseControl.for_model(condition, network(), 3)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"noises": ["uniform"], "norm": "l0", "epsilons": [0.1]}, "with norm l0 there is salt-and-pepper"),
        ({"noises": ["uniform"], "epsilons": [2]}, "epsilon is 2"),
        ({"noises": ["blue"], "epsilons": [0.1]}, "noises"),
        ({"noises": ["uniform"], "norm": "l2", "epsilons": [100]}, "from 0 to 13.8564"),
    ],
)
def test_bad_tables_are_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        settle(table)
    assert message in str(error.value)


@given(epsilon=st.floats(0, 1), seed=st.integers(0, 99), norm=st.sampled_from(["linf", "l2", "l0"]))
@settings(max_examples=40, deadline=None)
def test_projection_ends_in_the_ball_and_leaves_what_is_inside(epsilon: float, seed: int, norm: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    origin = torch.rand(2, 3, 4, 4, generator=generator)
    images = origin + torch.randn(2, 3, 4, 4, generator=generator)
    found = project(images, origin, epsilon, norm)
    assert float(distance(found, origin, norm).max()) <= epsilon + 1e-6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    torch.testing.assert_close(project(found, origin, epsilon, norm), found, atol=1e-6, rtol=0)
