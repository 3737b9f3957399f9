"""Who errs on the same images: error consistency of two systems at every pair of timesteps, as a matrix."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from pcbench.analysis.answers import Answers
from pcbench.analysis.comparison import scope_of
from pcbench.analysis.consistency import Outcomes, error_consistency
from pcbench.figures import style


def consistency_figure(first: Answers, second: Answers) -> tuple[Figure, pd.DataFrame]:
    """Cohen's kappa of being right, the mean over perturbed conditions: 1 the same errors, 0 independent errors.

    Conditions under which both are always right, or both always wrong, at some timestep have no kappa. They are left
    out of all of the matrix, so that its cells are means over the same conditions; the title says of how many.

    Grey numbers: the 95 % interval holds 0, independence is not refuted. A network with itself shows how its errors
    change over time.

    Args:
        first: rows of the matrix, one for each timestep.
        second: columns; on the same conditions and images; one column for a network without dynamics.

    Returns:
        The figure, and a row for each cell: t, t_other, kappa, low, high, least, most, observed, expected, n,
        conditions (how many have a kappa).
    """
    rows = [place for name in first.averaged() for place in first.places(name)]
    ours, theirs = (each.values[rows].astype(bool).transpose(0, 2, 1) for each in (first, second))
    some = _with_kappa(ours, theirs)
    kept = some if some.any() else ~some  # without any, all of it is NaN
    found = error_consistency(ours[kept], theirs[kept])
    names = ("kappa", "low", "high", "least", "most", "observed", "expected")
    across, down = np.meshgrid(second.timesteps, first.timesteps)
    table = pd.DataFrame({"t": down.ravel(), "t_other": across.ravel()})
    table = table.assign(
        **{name: getattr(found, name).ravel() for name in names}, n=ours.shape[2], conditions=int(some.sum())
    )
    high, wide = found.kappa.shape
    figure = style.canvas(max(1.6 + 0.36 * wide, style.COLUMN), 0.9 + 0.26 * high)
    ax = figure.subplots()
    ax.grid(visible=False)
    lowest = float(np.min(found.kappa, initial=0.0, where=~np.isnan(found.kappa)))
    picture = ax.imshow(found.kappa, cmap="viridis", vmin=lowest, vmax=1, aspect="auto")
    for i in range(high):
        for j in range(wide):
            kappa = found.kappa[i, j]
            if np.isnan(kappa):
                continue
            refuted = not found.low[i, j] <= 0 <= found.high[i, j]
            ink = ("black" if kappa > 0.6 else "white") if refuted else "#999999"
            ax.text(j, i, f"{kappa:.2f}", ha="center", va="center", fontsize=5.5, color=ink)
    ax.set_xticks(range(wide), [str(t) for t in second.timesteps])
    ax.set_yticks(range(high), [str(t) for t in first.timesteps])
    width = round(11 * figure.get_figwidth())
    ax.set_xlabel(style.fold(f"t of {style.named(second.full)}" if wide > 1 else style.named(second.full), width))
    ax.set_ylabel(style.fold(f"t of {style.named(first.full)}", 18))
    figure.colorbar(picture, ax=ax, label="error consistency κ")
    left = "" if some.all() else f"; κ is defined in {some.sum()} of {len(some)} conditions"
    style.about(figure, scope_of(first) + left)
    return figure, table


def _with_kappa(ours: Outcomes, theirs: Outcomes) -> npt.NDArray[np.bool_]:
    """(C,) whether two observers have a kappa at every pair of timesteps."""
    undefined = np.zeros(len(ours), dtype=bool)
    for always in (True, False):
        constant = [(each == always).all(axis=2).any(axis=1) for each in (ours, theirs)]
        undefined |= constant[0] & constant[1]
    return ~undefined
