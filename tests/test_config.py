"""Options of a run: each stands in one place, and everything that uses it derives from there."""

from dataclasses import dataclass, replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pcbench.cli.run import with_options
from pcbench.config import RunConfig, _option
from pcbench.errors import UserError


@dataclass(frozen=True)
class Larger(RunConfig):
    """A run with one option more, and nothing else changed anywhere."""

    sharpness: float | None = _option(None, "decides", "How sharp.", metavar="X", kind=float, enters="cell")
    verbose: bool = _option(False, "show", "Say more.", kind=bool)


def test_an_option_is_added_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Larger.of(model="m", suite="s", sharpness="0.5", verbose=True)
    assert config.sharpness == 0.5
    assert config.words()[-3:] == ["--sharpness", "0.5", "--verbose"]
    assert config.recorded() == {"model": ["m"], "suite": ["s"], "sharpness": 0.5}
    assert config.settings() == {"sharpness": 0.5}  # which is part of every cell's key
    monkeypatch.setattr("pcbench.cli.run.RunConfig", Larger)
    seen: dict[str, object] = {}
    command = click.command()(with_options(lambda **arguments: seen.update(arguments)))
    assert CliRunner().invoke(command, config.words()[2:]).exit_code == 0
    assert Larger.of(**seen) == config
    assert "How sharp." in CliRunner().invoke(command, ["--help"]).output


@pytest.mark.parametrize(
    "arguments",
    [
        {"device": "cuda", "engine": "ray", "ray_workers": 2},
        {"seed": -3, "timesteps": 0, "limit": 5},
        {"dynamics": "no-error", "feedback": "0.1,0.2", "jpeg85": True},
        {"figures": False, "quiet": True, "output": Path("a b")},
        {"model": ["a@x", "b?c=d"], "suite": ["s", "t.toml"]},
        {"batch_size": 4, "workers": 0, "dtype": "bfloat16", "shard": "1/2"},
    ],
)
def test_the_line_that_goes_on_asks_for_the_same(arguments: dict[str, object]) -> None:
    config = RunConfig.of(**{"model": "m", "suite": "s", **arguments})
    seen: dict[str, object] = {}
    command = click.command()(with_options(lambda **given: seen.update(given)))
    result = CliRunner().invoke(command, config.words()[2:])
    assert result.exit_code == 0, result.output
    assert RunConfig.of(**seen) == config


def test_every_option_says_what_it_is() -> None:
    defaults = RunConfig.defaults()
    for name, option in RunConfig.options().items():
        assert option.help.endswith("."), name
        assert (option.role == "decides") == (option.enters is not None), name
        assert option.kind is bool or option.metavar, name
        assert name in defaults


def test_a_record_names_no_place_of_this_machine() -> None:
    config = RunConfig.of(
        model="predify:x?config=/home/me/net.toml", suite="/home/me/s.toml", data="~/images", output="/scratch/out"
    )
    text = " ".join(map(str, config.recorded().values())) + " ".join(config.words(public=True))
    assert "/home" not in text
    assert "~" not in text
    assert "scratch" not in text
    assert config.words()[3] == "predify:x?config=/home/me/net.toml"  # the line that goes on works when pasted


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"model": ()}, "no model given"),
        ({"suite": ()}, "no suite given"),
        ({"model": ("a", "a")}, "'a' is given twice"),
        ({"timesteps": -1}, "timesteps is -1; the least is 0"),
        ({"limit": 0}, "the least is 1"),
        ({"limit": 2.5}, "it is an integer"),
        ({"dtype": "float23"}, "did you mean float32"),
        ({"dynamics": "no-eror"}, "did you mean no-error"),
        ({"frost_textures": 7}, "5"),
        ({"jpeg85": "yes"}, "true or false"),
        ({"seed": True}, "it is a number"),
        ({"ray_workers": 3}, "for --engine ray alone"),
        ({"sed": 3}, "did you mean seed"),
    ],
)
def test_bad_values_are_one_line(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        RunConfig.of(**{"model": "m", "suite": "s", **arguments})


def test_a_config_is_changed_by_replace() -> None:
    config = RunConfig.of(model="m", suite="s")
    assert replace(config, seed=3).words()[-2:] == ["--seed", "3"]
