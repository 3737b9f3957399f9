"""`pcbench explain`, and the addresses that texts give."""

import re

import pytest

from pcbench.cli.app import main
from pcbench.explain import topics
from tests.documentation.blocks import ROOT

NAMES = [topic.name for topic in topics()]
ADDRESS = re.compile(r"pcbench explain ([a-z][a-z-]*)")


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(words)
    captured = capsys.readouterr()
    return int(str(stop.value.code)), captured.out, captured.err


def test_without_a_topic_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(["explain"], capsys)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_through_a_pipe_a_topic_is_its_markdown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(["explain", name], capsys)
    assert code == 0
    assert out.startswith("# ")
    assert max(map(len, out.splitlines())) <= 130


def test_an_unknown_topic_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(["explain", "dynamic"], capsys)
    assert (code, out) == (2, "")
    assert err == "error: no topic 'dynamic'; did you mean dynamics?\n"


def test_every_topic_is_a_page() -> None:
    contents = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for name in NAMES:
        page = (ROOT / "docs" / "explanation" / f"{name}.md").read_text(encoding="utf-8")
        assert f"pcbench/explain/{name}.md" in page
        assert f"explanation/{name}\n" in contents


def test_every_address_that_is_given_exists() -> None:
    places = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "pcbench").rglob("*.py")]
    places += (ROOT / "pcbench" / "explain").glob("*.md")
    given = {(match, path.name) for path in places for match in ADDRESS.findall(path.read_text(encoding="utf-8"))}
    assert given
    assert not [(name, place) for name, place in given if name not in NAMES and "_build" not in place]


def test_one_word_for_one_thing() -> None:
    banned = re.compile(r"\b(time[- ]steps?|datasets?|sub-?commands?)\b")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "pcbench" / "explain").glob("*.md")]
    found = {(page.name, word) for page in pages for word in banned.findall(page.read_text(encoding="utf-8"))}
    assert not found
