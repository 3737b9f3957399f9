"""What README and the documentation tell people to type works."""

import sys
from pathlib import Path

import pytest

from tests.documentation.blocks import ROOT, blocks, execute

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "howto").glob("*.md")])
TO_RUN = [page for page in PAGES if any(block.runs for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for a POSIX shell")
@pytest.mark.parametrize("page", TO_RUN, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    execute(page, folder, tmp_path / "bin")


def test_a_block_that_is_not_run_says_why() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.comment is not None and block.comment.startswith("not run"):
                assert len(block.comment) > len("not run: ") + 8, (page, block.code)


def test_readme_is_read_in_a_few_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("marker", ["main-job", "tests"])
def test_readme_has_the_lines_that_continuous_integration_runs(marker: str) -> None:
    (line,) = [block.code for block in blocks(ROOT / "README.md") if block.comment == marker]
    assert line.count("\n") == 1
    assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -e ")


def test_paths_in_readme_and_contributing_exist() -> None:
    import re

    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert "://" in target or (ROOT / target).exists(), (page, target)
