"""Attack the answer at each timestep with a loop of one's own, and judge every attack at every timestep.

    python attack_every_timestep.py [NUMBER OF IMAGES]

The suites of `pcbench run` do this with stronger attacks and with evidence; this shows the pieces.
"""

import sys

import torch
from torch.nn.functional import cross_entropy

import pcbench
from pcbench.data.registry import load_data

T, EPS, STEPS = 3, 2 / 255, 5
count = int(sys.argv[1]) if len(sys.argv) > 1 else 20

model = pcbench.load_model("pvgg16-cifar")
data = load_data("samples-cifar10")
images = torch.stack([torch.from_numpy(data.read(i)) for i in range(min(count, len(data)))]).permute(0, 3, 1, 2) / 255
labels = torch.tensor(data.labels[: len(images)])


def attack(t: int) -> torch.Tensor:
    """Projected gradient descent on the answer at t, through the whole unrolled network."""
    classifier, adversarial = model.at(t), images.clone()
    for _ in range(STEPS):
        adversarial.requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(classifier(adversarial), labels, reduction="sum"), adversarial)
        moved = adversarial.detach() + EPS / 2 * gradient.sign()
        adversarial = torch.minimum(torch.maximum(moved, images - EPS), images + EPS).clamp(0, 1)
    return adversarial


def accuracy(x: torch.Tensor) -> str:
    """Percent correct at t = 0..T."""
    with torch.inference_mode():
        right = (model(x, timesteps=T).argmax(-1) == labels).float().mean(1)
    return "  ".join(f"{100 * value:5.1f}" for value in right.tolist())


print(f"accuracy (%) of {len(images)} images judged at t = 0..{T}")
print(f"no attack        {accuracy(images)}")
for t in range(T + 1):
    print(f"aimed at t = {t}   {accuracy(attack(t))}")
