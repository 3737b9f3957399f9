"""How every figure looks and how it is saved: one place for sizes, colours and files."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLUMN = 89 / 25.4  # inches: one column of a journal page
PAGE = 183 / 25.4  # inches: two columns

# Okabe and Ito's palette, which stays distinct with every common form of colour blindness, without its yellow (too
# pale for a line); each colour goes with a marker of its own, so that a grey print is readable too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h", "d", "8")
BASELINE = "#555555"

# Where a line may be broken: after a space, an option, a part of a list; not within 1,000 nor within T = 2.
_INSIDE = r"(?:[^ ,&?]| = |,(?=\d{3}(?!\d)))"
_WORDS = re.compile(rf"{_INSIDE}+$|{_INSIDE}*[ ,&?]")

# A system's label: what is done before the network, the network, its options.
_SYSTEM = re.compile(r"(?:(averaging|diffusion):)?([\w.:@/+-]+)(?:\?(\S+?)(?=[,:]?(?:\s|$)))?")

_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "figure.titlesize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "savefig.dpi": 300,
    "svg.hashsalt": "pcbench",  # the same data gives the same file
    "pdf.fonttype": 42,
}


@contextmanager
def style() -> Iterator[None]:
    """Within the context, matplotlib draws in the project's style; afterwards as before."""
    with matplotlib.style.context(_SETTINGS):
        yield


def canvas(width: float = COLUMN, height: float | None = None) -> Figure:
    """An empty figure, in inches. Not one of pyplot's: nothing global, no window."""
    return Figure(figsize=(width, height or width * 0.72), layout="constrained")


def panels(
    count: int, *, columns: int = 4, height: float = 1.25, sharex: bool = True, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """A grid of `count` panels; one column wide for one panel, a page wide for three or more.

    Args:
        count: number of panels, at least 1.
        columns: of the grid, at most.
        height: of one row, in inches.
        sharex: whether all panels have one x axis.
        sharey: whether all panels have one y axis.

    Returns:
        The figure and its `count` axes, row by row. Inner panels have no tick labels where axes are shared.
    """
    columns = min(columns, count)
    rows = -(-count // columns)
    width = {1: COLUMN, 2: COLUMN * 1.4}.get(columns, PAGE)
    figure = canvas(width, max(height * rows + 0.55, COLUMN * 0.72 if count == 1 else 0.0))
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).ravel().tolist()
    for unused in axes[count:]:
        unused.set_axis_off()
    for above in axes[max(0, count - columns) : count]:  # the last in each column shows the x axis
        above.tick_params(labelbottom=True)
    return figure, axes[:count]


def colour(index: int) -> str:
    """The colour of the index-th unordered thing (model, PCoder); repeats after seven."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """The marker that goes with `colour(index)`; no two of fourteen things share one."""
    return MARKERS[index % len(MARKERS)]


def named(label: str) -> str:
    """A text with systems' labels as people read them: options in words, in parentheses.

    >>> named("diffusion:vgg16-cifar?sigma=0.3 [ours]")
    'vgg16-cifar after diffusion (sigma 0.3) [ours]'
    >>> named("net?a=1&b=2 at t = 0, imagenet"), named("timm:resnet18")
    ('net (a 1, b 2) at t = 0, imagenet', 'timm:resnet18')
    """
    return _SYSTEM.sub(_in_words, label)


def _in_words(found: re.Match[str]) -> str:
    before, model, options = found.groups()
    done = f"{model} after {before}" if before else model
    return f"{done} ({options.replace('&', ', ').replace('=', ' ')})" if options else done


def shades(count: int) -> list[str]:
    """Colours of `count` ordered things (severities, timesteps), light to dark, of one perceptually even map."""
    ramp = mpl.colormaps["viridis"]
    return [mpl.colors.to_hex(ramp(x)) for x in np.linspace(0.85, 0.05, count)]


def percent_axis(axes: Axes, label: str = "accuracy (%)") -> None:
    """The y axis of an accuracy: label, few ticks."""
    axes.set_ylabel(label)
    axes.yaxis.set_major_locator(MaxNLocator(5))


def timestep_axis(axes: Axes, timesteps: Sequence[int]) -> None:
    """The x axis of timesteps: integer ticks, with room at both ends."""
    axes.set_xlim(min(timesteps) - 0.3, max(timesteps) + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def legend_below(figure: Figure) -> None:
    """A legend of all panels below them: two columns where names are short, one where they are not; taller for it."""
    labels = list(dict.fromkeys(text for ax in figure.axes for text in ax.get_legend_handles_labels()[1]))
    longest = max((len(label) for label in labels), default=0)
    columns = 2 if 2 * longest < 11 * figure.get_figwidth() else 1
    lines = sum(1 + len(label) // _width(figure) for label in labels) // columns
    make_room(figure, lines - 2)
    handles: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend([*handles.values()], [*handles], loc="outside lower center", ncols=columns)


def make_room(figure: Figure, lines: int) -> None:
    """Make a figure taller by so many lines of a legend, so that its panels keep their size."""
    figure.set_figheight(figure.get_figheight() + 0.13 * max(0, lines))


def _width(figure: Figure) -> int:
    """Characters of a legend's line: small print has about 15 to an inch."""
    return max(round(11 * figure.get_figwidth()), 24)


def about(figure: Figure, *lines: str) -> None:
    """What a figure shows, above its panels: images, conditions, what is missing; the panels keep their size."""
    kept = [line for line in lines if line]
    figure.suptitle("\n".join(kept))
    make_room(figure, sum(1 + len(line) // _width(figure) for line in kept))


def fold(line: str, width: int) -> str:
    """A text of lines that are no longer than `width` where its words, options and lists allow it.

    >>> print(fold("pvgg16?feedback=0.2,0.1,0.1&pc=0.02 at t = 0", 24))
    pvgg16?feedback=0.2,0.1,
    0.1&pc=0.02 at t = 0
    >>> print(fold("of cifar10, 1,000 images, T = 2", 16))
    of cifar10,
    1,000 images,
    T = 2
    """
    lines = [""]
    for part in _WORDS.findall(line):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _fold_names(figure: Figure) -> None:
    """Models' names hold their options and may be long: they must not squeeze the panels."""
    legends = [*figure.legends, *(legend for ax in figure.axes if (legend := ax.get_legend()) is not None)]
    width = _width(figure)
    for text in [text for legend in legends for text in legend.get_texts()]:
        text.set_text("\n".join(fold(named(line), width) for line in text.get_text().split("\n")))
    if figure.get_suptitle():
        figure.suptitle("\n".join(fold(named(line), width) for line in figure.get_suptitle().split("\n")))


def save(figure: Figure, data: pd.DataFrame, path: Path, formats: Sequence[str] = ("png", "svg", "pdf")) -> list[Path]:
    """Write a figure and, beside it, the numbers that it shows.

    Args:
        figure: what to write.
        data: one row for each point, written to PATH.csv.
        path: without ending; its folder is made.
        formats: file endings that matplotlib knows.

    Returns:
        The files, the CSV last.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _fold_names(figure)
    files = []
    for ending in formats:
        file = path.with_name(f"{path.name}.{ending}")
        dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # the same data gives the same file
        figure.savefig(file, metadata=dates.get(ending))
        files.append(file)
    table = path.with_name(f"{path.name}.csv")
    data.to_csv(table, index=False, float_format="%.6g")
    return [*files, table]
