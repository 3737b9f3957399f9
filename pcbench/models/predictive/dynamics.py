"""How strong each term of the update is."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pcbench.models.predictive.network import PredictiveNet

if TYPE_CHECKING:
    import pandas as pd

TERMS = ("feedforward", "feedback", "memory", "error")


def term_shares(network: PredictiveNet, batches: Iterable[Tensor], timesteps: int) -> "pd.DataFrame":
    """Share of each term in the update: its root mean square over that of e_n, over all units of all images.

    The terms are b ff_n(t), l p_(n+1)(t-1), (1 - b - l) e_n(t-1) and -a s_n g_n(t-1); they add up to e_n(t).

    Args:
        network: is run without gradients.
        batches: normalised inputs (B, C, H, W); how images are batched does not matter.
        timesteps: T.

    Returns:
        One row per PCoder (from 1) and timestep (from 1): pcoder, module, timestep, feedforward, feedback, memory,
        error.
    """
    import pandas as pd

    squares: dict[tuple[int, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    updates: dict[int, int] = {}

    def observe(n: int, terms: Mapping[str, Tensor], e: Tensor) -> None:
        updates[n] = updates.get(n, 0) + 1
        sums = squares[n, updates[n]]
        for name, term in {**terms, "e": e}.items():
            sums[name] += float(term.double().square().sum())

    with torch.no_grad():
        for x in batches:
            updates.clear()
            for _ in network.unroll(x, timesteps, observer=observe):
                pass
    rows = []
    for (n, t), sums in sorted(squares.items()):
        shares = {term: (sums[term] / sums["e"]) ** 0.5 if sums["e"] else 0.0 for term in TERMS}
        rows.append({"pcoder": n + 1, "module": network.config.pcoders[n].module, "timestep": t, **shares})
    return pd.DataFrame(rows, columns=["pcoder", "module", "timestep", *TERMS])
