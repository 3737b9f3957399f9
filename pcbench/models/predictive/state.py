"""The state between two timesteps: the representations, and what is computed from them when it is needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pcbench.errors import UserError
from pcbench.models.predictive.config import Scaling
from pcbench.models.predictive.pcoder import PCoder, Weight
from pcbench.models.predictive.pullback import Predict, Pullback, prepared

Gradient = Literal["exact", "truncated"]


@dataclass(frozen=True)
class Precision:
    """The autocast around an unroll, which is on for some of it only, see PredictiveNet.

    Attributes:
        device: type of it, "cpu" or "cuda".
        dtype: that layers compute in where it is on.
        enabled: whether there is one.
    """

    device: str
    dtype: torch.dtype
    enabled: bool

    @classmethod
    def around(cls, x: Tensor) -> "Precision":
        """The one that is on now, for the device of a tensor."""
        device = x.device.type
        return cls(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))

    def full(self) -> torch.autocast:
        """A context in which layers compute in the precision of their weights."""
        return torch.autocast(self.device, self.dtype, enabled=False)

    def low(self) -> torch.autocast:
        """A context like the one around the unroll."""
        return torch.autocast(self.device, self.dtype, enabled=self.enabled)


class Terms:
    """What an unroll takes from its PCoders, looked up once: predictors made ready, weights of the terms, scaling.

    Args:
        pcoders: N of them. They must not change while the unroll goes on.
        scaling: of the error gradient.
        gradient: "truncated" hides the error gradient from autograd.
        precision: of the unroll.
    """

    def __init__(self, pcoders: Sequence[PCoder], scaling: Scaling, gradient: Gradient, precision: Precision) -> None:
        self.gradient = gradient
        self.precision = precision
        self._pcoders = pcoders
        self._scaling = scaling
        self._predict: dict[int, Predict] = {}
        self.feedforward = [pcoder.weight("feedforward") for pcoder in pcoders]
        # what PCoder N would be fed back does not exist
        self.feedback: list[Weight] = [*(pcoder.weight("feedback") for pcoder in pcoders[:-1]), 0.0]
        self.pc = [pcoder.weight("pc") for pcoder in pcoders]

    def predict(self, n: int) -> Predict:
        """Of PCoder n, counted from 0."""
        if n not in self._predict:
            self._predict[n] = prepared(self._pcoders[n].predictor, self._pcoders[n].route)
        return self._predict[n]

    def factor(self, n: int, elements: int) -> Weight:
        """What J^T (p - e_(n-1)) is to be multiplied with, for predictions of K elements: 2 / K or 2 / sqrt(C).

        g_n = 2 / K J^T (p_n - e_(n-1)) and s_n = 1 or K / sqrt(C).
        """
        return 2.0 / self._pcoders[n].C_sqrt if self._scaling == "kc" else 2.0 / elements


class State:
    """The representations e_1..e_N of one timestep over the input e_0, with predictions and gradients on demand.

    Args:
        terms: of the unroll.
        x: e_0, (B, C, H, W).
        representations: N tensors of single precision or better, whatever the layers compute in.
        seen: the same as the layers see them: in the precision of the drives.
    """

    def __init__(self, terms: Terms, x: Tensor, representations: list[Tensor], seen: list[Tensor]) -> None:
        self.representations = representations
        self._terms = terms
        self._x = x
        self._seen = seen
        self._predicted: dict[int, tuple[Tensor, Pullback]] = {}

    def fresh(self) -> "State":
        """The same representations, with nothing computed from them yet."""
        return State(self._terms, self._x, self.representations, self._seen)

    def below(self, n: int) -> Tensor:
        """e_(n-1), counting PCoders from 0 here: what PCoder n predicts."""
        return self.representations[n - 1] if n else self._x

    def prediction(self, n: int) -> Tensor:
        """p_n; its predictor is called once. Raises UserError when it does not have the shape of the layer below."""
        if n not in self._predicted:
            below = self.below(n)
            with self._terms.precision.full():
                p, pullback = self._terms.predict(n)(self._seen[n])
            if p.shape != below.shape:
                raise UserError(
                    f"PCoder {n + 1}: its predictor gives shape {list(p.shape[1:])}, but the layer below has "
                    f"{list(below.shape[1:])}; use inputs of the size that the predictors were made for"
                )
            dtype = p.dtype

            def product(v: Tensor) -> Tensor:
                with self._terms.precision.low():
                    return pullback(v.to(dtype))

            self._predicted[n] = p.to(state_dtype(dtype)), product
        return self._predicted[n][0]

    def error(self, n: int) -> Tensor:
        """eps_n, (B,): mean of (p_n - e_(n-1))^2 over the elements of each image."""
        return (self.prediction(n) - self.below(n)).square().flatten(1).mean(1)

    def ascent(self, n: int) -> tuple[Tensor, Weight]:
        """The scaled gradient s_n g_n, as a tensor of the shape of e_n and a factor to multiply it with."""
        p = self.prediction(n)
        pullback = self._predicted[n][1]
        if self._terms.gradient == "truncated":
            with torch.no_grad():
                product = pullback(p - self.below(n)).detach()
        else:
            product = pullback(p - self.below(n))
        return product, self._terms.factor(n, p[0].numel())


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision of states whose layers compute in another: single at least, so that small updates are not lost."""
    return torch.promote_types(dtype, torch.float32)
