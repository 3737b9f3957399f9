"""The state between two timesteps: the representations, and what is computed from them when it is needed."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pcbench.errors import UserError
from pcbench.models.predictive.config import Scaling
from pcbench.models.predictive.pcoder import PCoder
from pcbench.models.predictive.pullback import Pullback, predict

Gradient = Literal["exact", "truncated"]


class State:
    """The representations e_1..e_N of one timestep over the input e_0, with predictions and gradients on demand.

    Args:
        pcoders: N of them.
        x: e_0, (B, C, H, W).
        representations: N tensors.
        scaling: of the gradient.
        gradient: "truncated" hides the error gradient from autograd.
    """

    def __init__(
        self, pcoders: Sequence[PCoder], x: Tensor, representations: list[Tensor], scaling: Scaling, gradient: Gradient
    ) -> None:
        self.representations = representations
        self._pcoders = pcoders
        self._x = x
        self._scaling = scaling
        self._gradient = gradient
        self._predicted: dict[int, tuple[Tensor, Pullback]] = {}

    def fresh(self) -> "State":
        """The same representations, with nothing computed from them yet."""
        return State(self._pcoders, self._x, self.representations, self._scaling, self._gradient)

    def below(self, n: int) -> Tensor:
        """e_(n-1), counting PCoders from 0 here: what PCoder n predicts."""
        return self.representations[n - 1] if n else self._x

    def prediction(self, n: int) -> Tensor:
        """p_n; its predictor is called once. Raises UserError when it does not have the shape of the layer below."""
        if n not in self._predicted:
            p, pullback = predict(self._pcoders[n].predictor, self.representations[n], self._pcoders[n].route)
            if p.shape != self.below(n).shape:
                raise UserError(
                    f"PCoder {n + 1}: its predictor gives shape {list(p.shape[1:])}, but the layer below has "
                    f"{list(self.below(n).shape[1:])}; use inputs of the size that the predictors were made for"
                )
            self._predicted[n] = p, pullback
        return self._predicted[n][0]

    def error(self, n: int) -> Tensor:
        """eps_n, (B,): mean of (p_n - e_(n-1))^2 over the elements of each image."""
        difference = self.prediction(n).float() - self.below(n).float()
        return difference.square().flatten(1).mean(1)

    def gradient(self, n: int) -> tuple[Tensor, float | Tensor]:
        """The scaled gradient s_n g_n, as a tensor of the shape of e_n and a factor to multiply it with.

        g_n = 2 / K J^T (p_n - e_(n-1)) and s_n = 1 or K / sqrt(C), so the factor is 2 / K or 2 / sqrt(C).
        """
        p = self.prediction(n)
        pullback = self._predicted[n][1]
        if self._gradient == "truncated":
            with torch.no_grad():
                product = pullback(p - self.below(n)).detach()
        else:
            product = pullback(p - self.below(n))
        factor = 2.0 / self._pcoders[n].C_sqrt if self._scaling == "kc" else 2.0 / p[0].numel()
        return product, factor
