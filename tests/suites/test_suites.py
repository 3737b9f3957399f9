"""The suites that come with the package."""

import sys

import pytest

from pcbench.cli.app import main
from pcbench.perturbations.corruptions.constants import BENCHMARK_NAMES, NAMES
from pcbench.suites.registry import list_suites, load_suite, suite_names


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_opens_and_its_name_is_that_of_its_file(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert suite.conditions
    assert suite.digest() == load_suite(name).digest()


def test_imagenet_c_is_15_and_19_corruptions_at_5_severities() -> None:
    for name, expected in (("imagenet-c", BENCHMARK_NAMES), ("imagenet-c-19", NAMES)):
        found = {(c.perturbation, c.severity) for c in load_suite(name).conditions}
        assert found == {(corruption, float(s)) for corruption in expected for s in range(1, 6)}
    assert (len(BENCHMARK_NAMES), len(NAMES)) == (15, 19)


def test_gaussian_noise_has_the_levels_of_the_paper_in_normalised_units() -> None:
    conditions = load_suite("gaussian-noise").conditions
    assert [c.severity for c in conditions] == [0, 0.25, 0.5, 0.75, 1, 2]
    assert {c.params["units"] for c in conditions} == {"normalised"}
    assert {c.params["units"] for c in load_suite("gaussian-noise-pixel").conditions} == {"pixel"}


def test_the_list_says_what_each_suite_asks() -> None:
    rows = {row["name"]: row for row in list_suites()}
    assert rows["imagenet-c"]["conditions"] == 75
    assert rows["manifold"]["measure"] == "representations"


def test_a_suite_that_needs_a_missing_package_is_listed_with_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)  # as where it is not installed
    rows = {row["name"]: row for row in list_suites()}
    assert set(rows) == set(suite_names())
    row = rows["adversarial-thorough"]
    assert row["conditions"] is None
    assert str(row["needs"]).endswith("pip install 'pcbench[attacks]'")
    assert [name for name, row in rows.items() if row["needs"]] == ["adversarial-thorough"]
    with pytest.raises(SystemExit) as end:
        main(["suites"])
    assert end.value.code == 0
    assert "pcbench[attacks]" in "".join(capsys.readouterr().out.split())
