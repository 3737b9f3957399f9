"""An attack: one step along the sign of the gradient, as far as epsilon allows."""

import torch
from torch import Tensor

from pcbench.perturbations.attacks.attack import Attack, Problem


def _run(problem: Problem) -> Tensor:
    images = problem.images.clone().requires_grad_()
    with torch.enable_grad():
        loss = torch.nn.functional.cross_entropy(problem.victim(images), problem.labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
    return (images + problem.epsilon * gradient.sign()).clamp(0, 1).detach()


SIGN = Attack("example-sign", "one signed step", "pcbench-example", "single-step", ("linf",), _run, batched=True)
