"""The curves of a training: what its log says, over epochs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pcbench.figures.style import PAGE, canvas, colour, marker, percent_axis, save, shades, style
from pcbench.training.folder import Row


def draw_feedback(rows: Sequence[Row], path: Path) -> list[Path]:
    """Draw the training of feedback weights: losses (log axis; dashed: training), and held-out explained variance.

    Args:
        rows: one an epoch.
        path: of the picture, without ending.

    Returns:
        The files that were written.
    """
    log = pd.DataFrame(list(rows))
    count = sum(name.startswith("train_loss_") for name in log.columns)
    held_out = "held_out_loss_1" in log
    colours = shades(count)  # PCoders are ordered
    with style():
        figure = canvas(PAGE if held_out else PAGE / 2, 2.6)
        axes = figure.subplots(1, 2 if held_out else 1, squeeze=False)[0]
        for n in range(1, count + 1):
            look: dict[str, Any] = {"color": colours[n - 1], "marker": marker(n - 1)}
            axes[0].plot(log["epoch"], log[f"train_loss_{n}"], "--", linewidth=0.7, color=look["color"])
            if held_out:
                _curve(axes[0], log, f"held_out_loss_{n}", **look)
                _curve(axes[1], log, f"explained_variance_{n}", factor=100, label=f"PCoder {n}", **look)
        _epochs(axes)
        axes[0].set(ylabel="mean squared error", yscale="log")
        if held_out:
            axes[0].set_title("held-out images; dashed: training images")
            lowest = 100 * log.filter(like="explained_variance_").to_numpy().min()
            axes[1].set(ylabel="explained variance of the layer below (%)", ylim=(max(0, lowest) - 5, 102))
            axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return save(figure, log, path, ("png",))


def draw_classifier(rows: Sequence[Row], path: Path) -> list[Path]:
    """Draw the training of a classifier: loss, and accuracy at the first and the last timestep.

    Arguments and return value as those of `draw_feedback`.
    """
    log = pd.DataFrame(list(rows))
    last = sum(name.startswith("accuracy_t") for name in log.columns) - 1
    with style():
        figure = canvas(PAGE, 2.4)
        loss, accuracy = figure.subplots(1, 2)
        for look, (part, label) in enumerate((("train", "training images"), ("test", "test images"))):
            _curve(loss, log, f"{part}_loss", label=label, **_look(look))
        _curve(accuracy, log, "train_accuracy", factor=100, label="training images, augmented", **_look(0))
        for look, t in enumerate(sorted({0, last}), start=1):
            _curve(accuracy, log, f"accuracy_t{t}", factor=100, label=f"test images, t = {t}", **_look(look))
        _epochs((loss, accuracy))
        loss.set(ylabel="cross-entropy (nats)")
        percent_axis(accuracy)
        for axes in (loss, accuracy):
            axes.legend()
        return save(figure, log, path, ("png",))


def _look(index: int) -> dict[str, Any]:
    return {"color": colour(index), "marker": marker(index)}


def _curve(axes: Axes, log: pd.DataFrame, column: str, *, factor: float = 1.0, **look: Any) -> None:
    axes.plot(log["epoch"], factor * log[column], markevery=max(1, len(log) // 8), **look)


def _epochs(every: Sequence[Axes]) -> None:
    for axes in every:
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
