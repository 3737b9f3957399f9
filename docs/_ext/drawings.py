"""`{pcbench-drawing} NAME`: drawings made from the code when the site is built, as SVG inside the page.

packages: which package imports which, read off the import statements (`imports.py`).
unroll:   the terms of each update, as a small network reports them while it runs.
key:      what identifies a cell: the fields of the key, read off the dataclasses.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from html import escape
from typing import Any, get_args, get_type_hints

from docutils import nodes
from imports import edges, layers, reduced
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


@dataclass
class Canvas:
    """An SVG that takes its colours from the page, so that it is read in light and dark."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, kind: str = "box") -> None:
        """A rectangle."""
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>')

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        """A line of text, centred on y; `e_{1}` sets the braces low."""
        shown, low = "", False
        for part in words.replace("_{", "\0").replace("}", "\0").split("\0"):
            shown += (
                f'<tspan dy="3" font-size="75%">{escape(part)}</tspan><tspan dy="-3">&#8203;</tspan>'
                if low
                else escape(part)
            )
            low = not low
        self.parts.append(
            f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}" dominant-baseline="central">{shown}</text>'
        )

    def arrow(self, start: tuple[float, float], end: tuple[float, float], kind: str = "line", bend: float = 0) -> None:
        """An arrow, bent to its left by so many units."""
        (x0, y0), (x1, y1) = start, end
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1
        cx, cy = (x0 + x1) / 2 + bend * (y1 - y0) / length, (y0 + y1) / 2 - bend * (x1 - x0) / length
        self.parts.append(
            f'<path class="{kind}" marker-end="url(#head-{kind})" '
            f'd="M{x0:.1f},{y0:.1f} Q{cx:.1f},{cy:.1f} {x1:.1f},{y1:.1f}"/>'
        )

    def svg(self, title: str, arrows: Iterable[str] = ("line",)) -> str:
        """The whole, with a title for who cannot see it."""
        heads = "".join(
            f'<marker id="head-{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path class="head {kind}" d="M0,0.5 L8,4 L0,7.5 z"/></marker>'
            for kind in arrows
        )
        return (
            f'<svg class="drawing" role="img" viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
            f'style="max-width:{self.width:.0f}px;min-width:{0.6 * self.width:.0f}px">'
            f"<title>{escape(title)}</title><defs>{heads}</defs>{''.join(self.parts)}</svg>"
        )


def packages() -> str:
    """The packages of pcbench, users above what they use; an arrow that follows from others is left out."""
    found = edges("pcbench")
    rows = layers(found)
    step, high, wide = 74, 30, 118
    canvas = Canvas(max(len(row) for row in rows) * (wide + 22) + 20, len(rows) * step)
    places: dict[frozenset[str], tuple[float, float]] = {}
    for y, row in enumerate(rows):
        gap = canvas.width / len(row)
        for x, group in enumerate(row):
            places[group] = ((x + 0.5) * gap, y * step + step / 2)
    home = {name: group for group in places for name in group}
    for user, used in sorted(reduced({(home[a], home[b]) for a, b in found if home[a] != home[b]}), key=str):
        (x0, y0), (x1, y1) = places[user], places[used]
        canvas.arrow((x0, y0 + high / 2), (x1, y1 - high / 2), bend=0 if y1 - y0 <= step else 14)
    for group, (x, y) in places.items():
        names = sorted(group)
        height = high if len(names) == 1 else 16 * len(names) + 8
        canvas.box(x - wide / 2, y - height / 2, wide, height, "box" if len(names) == 1 else "box cycle")
        for n, name in enumerate(names):
            canvas.text(x, y + 16 * (n - (len(names) - 1) / 2), name)
    return canvas.svg("Which package of pcbench imports which")


TERMS = {"feedforward": "b ff", "feedback": "l p", "memory": "(1 - b - l) e", "error": "a s g"}


def unroll() -> str:
    """Three PCoders over t = 0, 1, 2, with the terms that a network of three PCoders has in its updates."""
    present = _terms()
    depth, steps = len(present), 3
    right, up = 190, 96
    canvas = Canvas(right * steps + 40, up * (depth + 2) + 10)

    def place(n: int, t: int) -> tuple[float, float]:
        return 75 + t * right, up * (depth - n + 1) + 20

    radius = 22
    for t in range(steps):
        x, _ = place(0, t)
        canvas.text(x, 14, f"t = {t}", "strong")
        for n in range(depth + 1):
            cx, cy = place(n, t)
            label = f"e_{{{n}}}" if n else "image"
            canvas.box(
                cx - radius - (6 if not n else 0),
                cy - 15,
                2 * radius + (12 if not n else 0),
                30,
                "box" if n else "box plain",
            )
            canvas.text(cx, cy, label)
            if n:
                canvas.arrow((cx, cy + up - 15), (cx, cy + 15), "feedforward")
        cx, cy = place(depth, t)
        canvas.arrow((cx, cy - 15), (cx, cy - up + 47), "line")
        canvas.text(cx, cy - up + 36, f"answer at t = {t}")
        if t + 1 == steps:
            continue
        for n in range(1, depth + 1):
            (x0, y0), (x1, y1) = place(n, t), place(n, t + 1)
            if "memory" in present[n - 1]:
                canvas.arrow((x0 + radius, y0 - 5), (x1 - radius, y1 - 5), "memory", bend=8)
            if "error" in present[n - 1]:
                canvas.arrow((x0 + radius, y0 + 7), (x1 - radius, y1 + 7), "error", bend=-10)
            if "feedback" in present[n - 1]:
                above = place(n + 1, t)
                canvas.arrow((above[0] + radius, above[1] + 12), (x1 - radius + 6, y1 - 15), "feedback")
    for n, (kind, term) in enumerate(TERMS.items()):
        x = (0, 150, 275, 455)[n] + 12
        y = canvas.height - 22
        canvas.arrow((x, y), (x + 28, y), kind)
        canvas.text(x + 34, y, f"{kind}: {term}", "small", "start")
    return canvas.svg("A predictive network over three timesteps, with the terms of each update", ("line", *TERMS))


def _terms() -> list[set[str]]:
    """For each PCoder of a network of three, the terms that are not zero at t = 1."""
    import torch
    from torch import nn

    import pcbench

    torch.manual_seed(0)
    backbone = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3)), nn.Flatten(), nn.Linear(192, 2)).eval()
    tables = [{"module": str(n), "predictor": "Conv2d(3, 3, 3, padding=1)"} for n in range(3)]
    net = pcbench.predify(backbone, {"input_size": [3, 8, 8], "gradient_scaling": True, "pcoders": tables})
    found: list[set[str]] = [set() for _ in tables]

    def observe(n: int, terms: Mapping[str, torch.Tensor], _: torch.Tensor) -> None:
        found[n] |= {name for name, term in terms.items() if bool(term.abs().max() > 0)}

    with torch.no_grad():
        for _ in net.unroll(torch.randn(1, 3, 8, 8), timesteps=1, observer=observe):
            pass
    unknown = set().union(*found) - set(TERMS)
    if unknown:
        raise ValueError(f"the drawing does not know the terms {sorted(unknown)}")
    return found


def key() -> str:
    """The key of a cell as a tree of its fields."""
    from pcbench.keys import CellKey

    lines: list[tuple[int, str]] = [(0, "cell")]
    _fields(CellKey, 1, lines)
    row = 23
    canvas = Canvas(430, row * len(lines) + 6)
    for y, (depth, name) in enumerate(lines):
        canvas.text(
            12 + 34 * depth,
            row * y + row / 2,
            name,
            "strong" if y + 1 < len(lines) and lines[y + 1][0] > depth else "",
            "start",
        )
        if depth:
            above = next(back for back in range(y - 1, -1, -1) if lines[back][0] < depth)
            x = 12 + 34 * (depth - 1) + 8
            canvas.parts.append(f'<path class="line" d="M{x},{row * above + row - 3} V{row * y + row / 2} h18"/>')
    return canvas.svg("The fields that identify a cell")


def _fields(kind: type, depth: int, lines: list[tuple[int, str]]) -> None:
    hints = get_type_hints(kind)
    for each in fields(kind):  # type: ignore[arg-type]
        lines.append((depth, each.name))
        inner = _dataclass_in(hints[each.name])
        if inner is not None and inner is not kind:
            _fields(inner, depth + 1, lines)


def _dataclass_in(hint: Any) -> type | None:
    for candidate in (hint, *get_args(hint)):
        if isinstance(candidate, type) and is_dataclass(candidate):
            return candidate
    return None


DRAWINGS: Mapping[str, Callable[[], str]] = {"packages": packages, "unroll": unroll, "key": key}


class Drawing(SphinxDirective):
    """One of the drawings."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """SVG, inside the page."""
        return [nodes.raw("", f'<div class="drawing">{DRAWINGS[self.arguments[0]]()}</div>', format="html")]


def setup(app: Sphinx) -> dict[str, object]:
    """Register the directive."""
    app.add_directive("pcbench-drawing", Drawing)
    return {"version": "1", "parallel_read_safe": True}
