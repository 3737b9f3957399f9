"""Sparsity and signal to noise, layer by layer."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from pcbench.figures.style import PAGE, canvas, colour, marker


def layers_figure(diagnostics: Mapping[str, pd.DataFrame], sigma: float) -> Figure:
    """Two panels over layers, a line for each network: signal-to-noise ratio at one sigma, and share of active units.

    Args:
        diagnostics: name of a network -> what `layer_diagnostics` returns.
        sigma: one of the sigmas in it.
    """
    figure = canvas(PAGE, 2.4)
    ratio, active = figure.subplots(1, 2)
    for index, (name, table) in enumerate(diagnostics.items()):
        rows = table[table["sigma"] == sigma]
        look = {"color": colour(index), "marker": marker(index)}
        ratio.plot(rows["layer"], rows["snr_db"], label=name, **look)
        active.plot(rows["layer"], 100 * rows["active"], label=name, **look)
    ratio.set(xlabel="layer", ylabel="signal to noise (dB)", title=f"input of each convolution, noise σ = {sigma:g}")
    active.set(xlabel="layer", ylabel="active units (%)", ylim=(0, None), title="activations of clean images")
    active.legend()
    return figure
