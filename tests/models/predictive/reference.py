"""The dynamics written down word for word, slowly, with forward hooks and autograd. Nothing here is pcbench's."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class ReferenceStep:
    """What one timestep of the reference leaves behind."""

    logits: Tensor
    e: list[Tensor]
    p: list[Tensor]
    eps: list[Tensor]
    g: list[Tensor]


def reference(
    backbone: nn.Module,
    modules: list[str],
    predictors: list[nn.Module],
    hyperparameters: list[tuple[float, float, float]],
    x: Tensor,
    timesteps: int,
    reach: list[int] | None = None,
) -> list[ReferenceStep]:
    """Unroll. `hyperparameters` are (feedforward, feedback, pc); with `reach` (C per PCoder) the scaling is kc."""
    backbone = copy.deepcopy(backbone)
    N = len(modules)
    steps: list[ReferenceStep] = []
    current: dict[int, Tensor] = {}

    def hook(n: int):
        def replace(module: nn.Module, inputs: tuple[Tensor, ...], ff: Tensor) -> Tensor:
            ff = ff.clone()
            if not steps:
                current[n] = ff
            else:
                b, feedback, a = hyperparameters[n]
                e, g = steps[-1].e[n], steps[-1].g[n]
                K = math.prod(steps[-1].p[n].shape[1:])
                s = 1.0 if reach is None else K / math.sqrt(reach[n])
                if n < N - 1:
                    p_above = steps[-1].p[n + 1]
                    current[n] = b * ff + feedback * p_above + (1 - b - feedback) * e - a * s * g
                else:
                    current[n] = b * ff + (1 - b) * e - a * s * g
            return current[n].clone()

        return replace

    for n, path in enumerate(modules):
        backbone.get_submodule(path).register_forward_hook(hook(n))
    for _ in range(timesteps + 1):
        with torch.no_grad():
            logits = backbone(x.clone())
        e = [current[n].detach().clone() for n in range(N)]
        p, eps, g = [], [], []
        for n in range(N):
            below = x if n == 0 else e[n - 1]
            images = []
            for i in range(len(x)):
                leaf = e[n][i : i + 1].clone().requires_grad_(True)
                prediction = predictors[n](leaf * 1.0)
                error = ((prediction - below[i : i + 1]) ** 2).mean()
                (gradient,) = torch.autograd.grad(error, leaf)
                images.append((prediction.detach(), error.detach(), gradient))
            p.append(torch.cat([image[0] for image in images]))
            eps.append(torch.stack([image[1] for image in images]))
            g.append(torch.cat([image[2] for image in images]))
        steps.append(ReferenceStep(logits, e, p, eps, g))
    return steps
