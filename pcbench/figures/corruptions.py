"""A contact sheet: every corruption at every severity of one image."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pcbench.perturbations.corruptions import NAMES, SEVERITIES, corrupt


def contact_sheet(image: npt.NDArray[np.uint8], *, seed: int = 0, variant: str = "auto") -> Figure:
    """Draw corruptions as rows and severities as columns, the clean image first.

    Args:
        image: (H, W, 3) uint8, at least 32 x 32 pixels.
        seed: of the random numbers.
        variant: as in `corrupt`.

    Returns:
        A figure of 19 rows in two blocks of columns.
    """
    per_block = -(-len(NAMES) // 2)
    columns = len(SEVERITIES) + 1
    figure = Figure(figsize=(14.5, 1.17 * per_block + 0.5))
    axes = figure.subplots(
        per_block, 2 * columns + 1, gridspec_kw={"width_ratios": [*[1] * columns, 1.15, *[1] * columns]}
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for i, name in enumerate(NAMES):
        row, block = i % per_block, i // per_block
        line = axes[row, block * (columns + 1) : block * (columns + 1) + columns]
        shown = [image, *(corrupt(image[None], name, s, seed=seed, variant=variant)[0] for s in SEVERITIES)]
        for axis, picture in zip(line, shown, strict=True):
            axis.imshow(picture)
        label = name.replace("_", "\n")
        line[0].text(-0.08, 0.5, label, transform=line[0].transAxes, ha="right", va="center", fontsize=10)
        if row == 0:
            for axis, title in zip(line, ["clean", *SEVERITIES], strict=True):
                axis.set_title(str(title), fontsize=10)
    figure.subplots_adjust(left=0.075, right=0.995, top=0.965, bottom=0.005, wspace=0.03, hspace=0.03)
    return figure
