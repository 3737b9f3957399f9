"""Equations as MathML, which browsers draw by themselves: no script, no other host."""

from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx


def inline(self: Any, node: nodes.math) -> None:
    """`$...$`."""
    self.body.append(f'<span class="math">{_mathml(node.astext())}</span>')
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    """A displayed equation."""
    self.body.append(f'<div class="math">{_mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def _mathml(tex: str, *, as_block: bool = False) -> str:
    return latex2mathml.tex2mathml(tex, as_block=as_block)


def setup(app: Sphinx) -> dict[str, object]:
    """Take the place of MathJax, which would be fetched from another host."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    return {"version": "1", "parallel_read_safe": True}
