"""The curves of a training of feedback weights: loss and explained variance of each PCoder against the epoch."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator

from pcbench.figures.style import PAGE, canvas, marker, save, shades, style
from pcbench.training.folder import Row


def draw_feedback(rows: Sequence[Row], path: Path) -> list[Path]:
    """Draw the log of a training: losses (log axis; dashed: training), and held-out explained variance.

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
            look = {"color": colours[n - 1], "marker": marker(n - 1), "markevery": max(1, len(log) // 8)}
            axes[0].plot(log["epoch"], log[f"train_loss_{n}"], "--", linewidth=0.7, color=look["color"])
            if held_out:
                axes[0].plot(log["epoch"], log[f"held_out_loss_{n}"], **look)
                axes[1].plot(log["epoch"], 100 * log[f"explained_variance_{n}"], label=f"PCoder {n}", **look)
        for one in axes:
            one.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[0].set(xlabel="epoch", ylabel="mean squared error", yscale="log")
        if held_out:
            axes[0].set_title("held-out images; dashed: training images")
            lowest = 100 * log.filter(like="explained_variance_").to_numpy().min()
            axes[1].set(
                xlabel="epoch", ylabel="explained variance of the layer below (%)", ylim=(max(0, lowest) - 5, 102)
            )
            axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return save(figure, log, path, ("png",))
