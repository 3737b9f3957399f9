"""Makes every `pcbench explain TOPIC` in the text a link to the page of that topic.

Links of files that lie outside of docs/ (CONTRIBUTING.md and its like) lead to the page that includes the file.
"""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

from pcbench.explain import topics

PAGES = {
    "pcbench/explain/": "explanation/",
    "CODE_OF_CONDUCT.md": "conduct",
    "CONTRIBUTING.md": "contributing",
    "docs/": "",
}
COMMAND = re.compile(r"pcbench explain ([a-z-]+)")


class LinkTopics(SphinxTransform):
    """`pcbench explain dynamics` -> a reference to explanation/dynamics, whose name is the topic's."""

    default_priority = 500

    def apply(self, **kwargs: object) -> None:
        """Wrap each such literal in a reference."""
        known = {topic.name for topic in topics()}
        for literal in list(self.document.findall(nodes.literal)):
            match = COMMAND.fullmatch(literal.astext())
            if not match or match[1] not in known or isinstance(literal.parent, nodes.reference):
                continue
            page = f"explanation/{match[1]}"
            if self.env.docname == page:
                continue
            reference = addnodes.pending_xref(
                "", refdomain="std", reftype="doc", reftarget=f"/{page}", refexplicit=True, refwarn=True
            )
            literal.replace_self(reference)
            reference += literal


def _included(app: Sphinx, path: object, parent: str, content: list[str]) -> None:
    for old, new in PAGES.items():
        content[0] = content[0].replace(f"]({old}", f"](/{new}" if new else "](/")


def setup(app: Sphinx) -> dict[str, object]:
    """Register the transform."""
    app.add_transform(LinkTopics)
    app.connect("include-read", _included)
    return {"version": "1", "parallel_read_safe": True}
