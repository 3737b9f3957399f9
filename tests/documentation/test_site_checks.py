"""The checks of the built site find what they look for, and the graph of packages is what the imports say."""

import sys
from pathlib import Path

import pytest

from tests.documentation.blocks import ROOT


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), str(ROOT / "docs" / "_ext"), *sys.path])


def test_dead_links_and_foreign_hosts_are_named(tmp_path: Path) -> None:
    from build import problems

    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="b.html#there">b</a><a href="#here">a</a><a href="c.html">c</a>'
    )
    (tmp_path / "b.html").write_text('<script src="https://elsewhere.test/x.js"></script><a href="https://fine.test">')
    (tmp_path / "s.css").write_text('@import "x.css";')
    found = problems(tmp_path)
    assert len(found) == 4
    assert "a.html links to b.html#there, whose anchor does not exist" in found
    assert "a.html links to c.html, which does not exist" in found
    assert "b.html fetches https://elsewhere.test/x.js" in found


def test_cycles_are_groups_and_what_follows_is_left_out() -> None:
    from imports import layers, reduced

    assert layers({("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")}) == [
        [frozenset("a")],
        [frozenset("bc")],
        [frozenset("d")],
    ]
    assert reduced({("a", "b"), ("b", "c"), ("a", "c")}) == {("a", "b"), ("b", "c")}


def test_imports_inside_functions_count() -> None:
    from imports import edges

    found = edges("pcbench")
    assert ("cli", "harness") in found
    assert ("models", "errors") in found
    assert not any(user == "errors" for user, _ in found)
