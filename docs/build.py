"""Build the documentation into docs/_build/html: warnings are errors, and what was built is checked.

    python docs/build.py

Checked: every link within the site leads to a file and an anchor that exist; nothing is fetched from another host.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

DOCS = Path(__file__).parent
SITE = DOCS / "_build" / "html"
FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("link", "href"),
    ("object", "data"),
}


class Page(HTMLParser):
    """The anchors of a page, its links, and what it makes a browser fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect."""
        for name, value in attrs:
            if not value:
                continue
            if name in ("id", "name"):
                self.anchors.add(value)
            if (tag, name) in FETCHED:
                self.fetched.append(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value)


def problems(site: Path) -> list[str]:
    """One line for each dead link, and for each thing that is fetched from another host."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        place = path.relative_to(site.resolve())
        found += [f"{place} fetches {url}" for url in page.fetched if urlsplit(url).netloc]
        for link in [*page.links, *page.fetched]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{place} links to {link}, which does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{place} links to {link}, whose anchor does not exist")
    for path in sorted(site.rglob("*.css")):
        text = path.read_text(encoding="utf-8")
        found += [
            f"{path.relative_to(site)} imports from elsewhere"
            for mark in ("@import", "url(http", "url(//")
            if mark in text
        ]
    return found


def main() -> int:
    """Build and check; 0 when all is well."""
    from sphinx.cmd.build import main as sphinx

    code = sphinx(
        [
            "-q",
            "-W",
            "--keep-going",
            "-j",
            "2",
            "-b",
            "html",
            "-d",
            str(DOCS / "_build" / "doctrees"),
            str(DOCS),
            str(SITE),
        ]
    )
    if code:
        return code
    found = problems(SITE)
    for line in found:
        print(line, file=sys.stderr)
    print(f"{len(list(SITE.rglob('*.html')))} pages in {SITE.relative_to(DOCS.parent)}, {len(found)} problems")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
