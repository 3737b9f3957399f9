"""Corruptions as conditions of a suite: what a table and the command's options make of them."""

import numpy as np
import pytest
import torch
from tiny_network import Tiny

from pcbench.errors import UserError
from pcbench.perturbations.corruption import Corruption
from pcbench.perturbations.corruptions import corrupt


def test_a_table_chooses_textures_and_the_condition_says_so():
    (condition,) = Corruption.conditions("mine", {"names": ["frost"], "severities": [2], "frost_textures": 6})
    assert condition.params["frost_textures"] == 6
    (plain,) = Corruption.conditions("mine", {"names": ["frost"], "severities": [2]})
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
    ids = [str(i) for i in range(20)]
    for made, textures in ((condition, 6), (plain, 5)):
        expected = corrupt(images, "frost", 2, seed=4, ids=ids, frost_textures=textures)
        assert torch.equal(Corruption(made).on_uint8(images, ids, 4), expected)
    assert not torch.equal(Corruption(condition).on_uint8(images, ids, 4), Corruption(plain).on_uint8(images, ids, 4))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"frost_textures": 4}, "5 textures, as in ImageNet-C, or 6, not 4"),
        ({"frost_textures": 6, "backend": "reference"}, "chooses frost's textures by itself"),
    ],
)
def test_textures_that_cannot_be_are_refused_when_a_run_is_planned(table, message):
    condition = Corruption.conditions("mine", table)[0]
    with pytest.raises(UserError, match=message):
        Corruption.for_model(condition, Tiny(), 2)


def test_an_unknown_key_is_named():
    with pytest.raises(UserError, match="did you mean frost_textures"):
        Corruption.conditions("mine", {"frost_texture": 6})
