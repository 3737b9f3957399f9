"""Keys: one canonical form, one digest; nothing is cut, rounded or parsed back."""

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcbench.keys import BadKeyError, CellKey, Condition, DataKey, ModelKey, canonical, read_key

NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=300)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
MODELS = st.builds(ModelKey, NAMES, NAMES, st.dictionaries(NAMES, JSON, max_size=3), NAMES, NAMES)
KEYS = st.builds(
    CellKey,
    MODELS,
    st.builds(DataKey, NAMES, NAMES, st.integers(1, 10**6)),
    st.builds(Condition, NAMES, NAMES, NAMES, st.floats(0, 100), st.dictionaries(NAMES, JSON, max_size=2)),
    st.integers(0, 50),
    st.sampled_from(["predictions", "representations"]),
    st.integers(0, 2**31),
    NAMES,
    NAMES,
)


def cell(**changes: object) -> CellKey:
    values: dict[str, object] = {
        "model": ModelKey("net", "tag", {}, "c" * 64),
        "data": DataKey("made", "f" * 64, 20),
        "condition": Condition("corruption", "fog", "weather", 3.0),
        "timesteps": 2,
        "measure": "predictions",
        "seed": 0,
        "dtype": "float32",
        "numerics": "2",
    }
    return CellKey(**{**values, **changes})  # type: ignore[arg-type]


@given(KEYS)
def test_a_key_comes_back_from_its_canonical_form(key: CellKey) -> None:
    again = read_key(CellKey, json.loads(key.text))
    assert again == key
    assert again.digest == key.digest
    assert pickle.loads(pickle.dumps(key)) == copy.deepcopy(key) == key


@given(KEYS)
def test_a_file_name_is_safe_and_bounded_whatever_the_key_holds(key: CellKey) -> None:
    assert len(key.stem) <= 120
    assert set(key.stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+=_-")
    assert not key.stem.startswith((".", "-"))
    assert key.stem.endswith(key.digest[:32])


def test_long_options_do_not_make_two_cells_one() -> None:
    """The file's name used to be cut at 100 characters, after which the conditions came."""
    options = {
        "feedback": [0.17, 0.07, 0.18, 0.06, 0.09],
        "feedforward": [0.44, 0.56, 0.12, 0.43, 0.15],
        "pc": [0.002, 0.008, 0.004, 0.007, 0.007],
    }
    model = ModelKey("pvgg16-cifar", "cifar10-half", options)
    one, two = (
        cell(model=model, condition=Condition("corruption", name, "blur", severity))
        for name, severity in (("defocus_blur", 4.0), ("saturate", 5.0))
    )
    assert one.stem != two.stem


def test_severities_are_kept_at_full_precision() -> None:
    near = [Condition("noise", "n", "noise", value) for value in (0.1, 0.1 + 1e-9, 0.1 + 1e-15)]
    assert len({key.digest for key in near}) == 3
    assert len({cell(condition=key).stem for key in near}) == 3


def test_kinds_of_numbers_do_not_make_keys_differ() -> None:
    one = Condition("noise", "n", "noise", np.float64(0.5), {"steps": np.int64(3)})
    assert one == Condition("noise", "n", "noise", 0.5, {"steps": 3})


@pytest.mark.parametrize(
    "change",
    [
        {"model": ModelKey("net", "tag", {}, "d" * 64)},
        {"model": ModelKey("net", "tag", {}, "c" * 64, "source")},
        {"model": ModelKey("net", "tag", {}, "c" * 64, "", ModelKey("base", "tag"))},
        {"data": DataKey("made", "f" * 64, 21)},
        {"condition": Condition("corruption", "fog", "weather", 3.0, {"jpeg85": True})},
        {"timesteps": 3},
        {"seed": 1},
        {"dtype": "bfloat16"},
        {"numerics": "3"},
        {"settings": {"tf32": True}},
    ],
)
def test_whatever_decides_results_makes_another_cell(change: dict[str, object]) -> None:
    assert cell(**change).digest != cell().digest
    assert cell(**change).stem != cell().stem


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical({"x": value})


@pytest.mark.parametrize(
    "change",
    [
        {"unheard": 1},
        {"timesteps": "many"},
        {"model": 3},
        {"measure": "guesses"},
        {"data": {"name": "x"}},
        {"seed": None},
    ],
)
def test_a_key_from_outside_is_checked(change: dict[str, object]) -> None:
    with pytest.raises(BadKeyError):
        read_key(CellKey, {**json.loads(cell().text), **change})
    with pytest.raises(BadKeyError):
        read_key(CellKey, "a label")
    escapes = json.loads(cell(model=ModelKey("net\x1b[2J", "tag")).text)
    with pytest.raises(BadKeyError, match="cannot be printed"):
        read_key(CellKey, escapes)
