"""The curves of a training of a classifier: loss, and accuracy at the first and the last timestep, over epochs."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator

from pcbench.figures.style import PAGE, canvas, colour, marker, percent_axis, save, style
from pcbench.training.folder import Row


def draw_classifier(rows: Sequence[Row], path: Path) -> list[Path]:
    """Draw the log of a training.

    Args:
        rows: one an epoch.
        path: of the picture, without ending.

    Returns:
        The files that were written.
    """
    log = pd.DataFrame(list(rows))
    last = sum(name.startswith("accuracy_t") for name in log.columns) - 1
    with style():
        figure = canvas(PAGE, 2.4)
        loss, accuracy = figure.subplots(1, 2)
        lines = [(loss, "train_loss", "training images", 1.0), (loss, "test_loss", "test images", 1.0)]
        lines += [(accuracy, "train_accuracy", "training images, augmented", 100.0)]
        lines += [(accuracy, f"accuracy_t{t}", f"test images, t = {t}", 100.0) for t in sorted({0, last})]
        for index, (axes, column, label, factor) in enumerate(lines):
            look = index if axes is loss else index - 2
            axes.plot(
                log["epoch"],
                factor * log[column],
                label=label,
                color=colour(look),
                marker=marker(look),
                markevery=max(1, len(log) // 8),
            )
        loss.set(xlabel="epoch", ylabel="cross-entropy (nats)")
        accuracy.set(xlabel="epoch")
        percent_axis(accuracy)
        for axes in (loss, accuracy):
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.legend()
        return save(figure, log, path, ("png",))
