"""Attacks: pcbench's engine against torchattacks and the official AutoAttack, on the same images in one process.

    python benchmarks/attacks.py [--models NAME ...] [--images N] [--epsilon 2/255] [--timestep T] [--rounds N]
                                 [--threads N] [--parts passes pgd apgd square autoattack] [--chunk N] [--strength]

The images are the first of the CIFAR-10 test set that the network gets right; PCBENCH_CIFAR10 names its copy. In each
round all take turns; a time is the median over the rounds, a ratio that of the medians. The limit of every attack is
the network's own passes, so the first table has those: the bare loop of forward passes, and of forward passes with the
gradient of the images, parameters frozen, batch 64. "of bare" is an attack's passes a second over that rate. Rivals get
a classifier of one timestep as a user would write it, and the faster of two batches, 64 and all images. Equal steps and
restarts throughout; `passes` counts images through the network, forward or forward and backward.

autoattack is run on chunks of the images, in turns, since the official code takes minutes; its table has robust
accuracies, which must agree. --strength prints instead what each attack of pcbench leaves of the images.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcbench.models.base import TemporalClassifier
from pcbench.models.resolve import load_model
from pcbench.perturbations.attacks.attack import ATTACKS, Option
from pcbench.perturbations.attacks.engine import Ball, Found, Plan
from pcbench.perturbations.attacks.isolation import frozen
from pcbench.perturbations.attacks.losses import LOSSES
from pcbench.perturbations.attacks.victim import Aim, Victim

BATCH = 64
STRENGTH: dict[str, tuple[str, str, dict[str, Option]]] = {
    "FGSM": ("fgsm", "ce", {}),
    "BIM-10": ("bim", "ce", {}),
    "MI-FGSM-10": ("mi-fgsm", "ce", {}),
    "PGD-20 CE, as Madry et al.": ("pgd", "ce", {"steps": 20, "momentum": 0.0, "relative_step": 0.125}),
    "PGD-25 margin": ("pgd", "margin", {}),
    "PGD-25 margin, 2 restarts, 3 targets": ("pgd", "margin", {"restarts": 2, "targets": 3}),
    "PGD-50 margin, 2 restarts, 9 targets": ("pgd", "margin", {"steps": 50, "restarts": 2, "targets": 9}),
    "APGD-CE-100": ("apgd-ce", "ce", {}),
    "APGD-DLR-100": ("apgd-dlr", "dlr", {}),
    "APGD-T-100": ("apgd-t", "dlr", {}),
    "FAB-T-100": ("fab-t", "margin", {}),
    "AutoAttack": ("autoattack", "margin", {}),
}


class Readout(nn.Module):
    """The classifier that a user hands to a library: the answer at one timestep; counts its passes."""

    def __init__(self, model: TemporalClassifier, t: int) -> None:
        super().__init__()
        self.inner = model.at(t)
        self.eval()
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes)."""
        self.passes += len(images)
        if images.requires_grad:  # the official code needs gradients that are laid out like the images
            images = images.view_as(images)
            images.register_hook(lambda gradient: gradient.contiguous())  # type: ignore[no-untyped-call]
        answer: Tensor = self.inner(images)
        return answer.clone()


def cifar10(count: int) -> tuple[Tensor, Tensor]:
    """The first test images, (N, 3, 32, 32) in [0, 1], and labels, of the copy that PCBENCH_CIFAR10 names."""
    path = Path(os.environ["PCBENCH_CIFAR10"])
    with np.load(path / "cifar10.npz" if path.is_dir() else path) as file:
        images, labels = file["x_test"][:count], file["y_test"][:count]
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255, torch.from_numpy(labels).long()


def ours(
    model: TemporalClassifier,
    t: int,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    name: str,
    loss: str,
    **options: Option,
) -> tuple[Found, int]:
    """What an attack of pcbench finds, and the passes that it made."""
    victim = Victim(model, Aim("timestep", t), LOSSES[loss], limit=BATCH)
    ids = [f"{i}" for i in range(len(labels))]
    plan = Plan(victim, images, labels, torch.full_like(labels, -1), ids, 0, Ball("linf", epsilon), True, BATCH, name)
    with frozen(model):  # as a run does
        found = ATTACKS[name].run(plan, ATTACKS[name].with_options(options))
    return found, victim.passes


def accuracy(model: TemporalClassifier, t: int, images: Tensor, labels: Tensor) -> int:
    """How many images are right at t."""
    with torch.no_grad():
        parts = [model(piece, timesteps=t)[-1].argmax(-1) for piece in images.split(BATCH)]
    return int((torch.cat(parts) == labels).sum())


def bare(model: TemporalClassifier, t: int, images: Tensor, labels: Tensor, gradient: bool) -> None:
    """The loop that nothing can be faster than."""
    for piece, its in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        asked = piece.detach().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            loss = F.cross_entropy(model.at(t)(asked), its)
        if gradient:
            torch.autograd.grad(loss, asked)


def turns(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant, in turns."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return times


def gradient_attacks(
    model: TemporalClassifier, t: int, images: Tensor, labels: Tensor, epsilon: float, rounds: int, parts: list[str]
) -> None:
    """PGD, APGD and Square against torchattacks, and the bare passes."""
    import torchattacks

    left: dict[str, int] = {}
    passes: dict[str, int] = {}

    def theirs(name: str, size: int, make: Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]]) -> None:
        readout = Readout(model, t)
        attack = make(readout)
        found = torch.cat(
            [attack(piece, its) for piece, its in zip(images.split(size), labels.split(size), strict=True)]
        )
        passes[name] = readout.passes
        left[name] = accuracy(model, t, found, labels)

    def mine(label: str, name: str, loss: str, **options: Option) -> None:
        found, passes[label] = ours(model, t, images, labels, epsilon, name, loss, **options)
        left[label] = accuracy(model, t, found.images, labels)

    contestants: dict[str, Callable[[], object]] = {
        "bare forward": lambda: bare(model, t, images, labels, False),
        "bare forward and gradient": lambda: bare(model, t, images, labels, True),
    }
    common = {"eps": epsilon}
    if "pgd" in parts:
        for size in {BATCH, len(images)}:
            contestants[f"torchattacks PGD-20, batch {size}"] = lambda size=size: theirs(
                f"torchattacks PGD-20, batch {size}",
                size,
                lambda net: torchattacks.PGD(net, alpha=epsilon / 8, steps=20, random_start=True, **common),
            )
        contestants["pcbench PGD-20"] = lambda: mine(
            "pcbench PGD-20", "pgd", "ce", steps=20, momentum=0.0, relative_step=0.125
        )
    if "apgd" in parts:
        for size in {BATCH, len(images)}:
            contestants[f"torchattacks APGD-20, batch {size}"] = lambda size=size: theirs(
                f"torchattacks APGD-20, batch {size}", size, lambda net: torchattacks.APGD(net, steps=20, **common)
            )
        contestants["pcbench APGD-20"] = lambda: mine("pcbench APGD-20", "apgd-ce", "ce", steps=20)
    if "square" in parts:
        contestants["torchattacks Square-200"] = lambda: theirs(
            "torchattacks Square-200", BATCH, lambda net: torchattacks.Square(net, n_queries=200, **common)
        )
        contestants["pcbench Square-200"] = lambda: mine("pcbench Square-200", "square", "margin", queries=200)
    for work in list(contestants.values())[:2]:
        work()
    times = {name: statistics.median(each) for name, each in turns(contestants, rounds).items()}
    rate = {name: len(images) / times[name] for name in list(contestants)[:2]}
    print("\n| attack | seconds | left of", len(images), "| passes | passes/s | of bare |\n|---|---|---|---|---|---|")
    for name, seconds in times.items():
        if name in rate:
            print(f"| {name} | {seconds:.2f} | | {len(images)} | {rate[name]:.0f} | |")
            continue
        limit = rate["bare forward" if "Square" in name else "bare forward and gradient"]
        speed = passes[name] / seconds
        print(f"| {name} | {seconds:.2f} | {left[name]} | {passes[name]} | {speed:.0f} | {speed / limit:.2f} |")
    for attack in ("PGD-20", "APGD-20", "Square-200"):
        rivals = [seconds for name, seconds in times.items() if name.startswith(f"torchattacks {attack}")]
        if rivals:
            print(f"\n{attack}: {min(rivals) / times[f'pcbench {attack}']:.2f} times the speed of torchattacks")


def autoattack(model: TemporalClassifier, t: int, images: Tensor, labels: Tensor, epsilon: float, chunk: int) -> None:
    """The whole standard AutoAttack against the official code, chunk by chunk in turns."""
    from pyautoattack import AutoAttack

    times: dict[str, list[float]] = {"official": [], "pcbench": []}
    left = {"official": 0, "pcbench": 0}
    passes = {"official": 0, "pcbench": 0}
    done = 0
    for piece, its in zip(images.split(chunk), labels.split(chunk), strict=True):
        start = time.perf_counter()
        found, made = ours(model, t, piece, its, epsilon, "autoattack", "margin")
        times["pcbench"].append(time.perf_counter() - start)
        left["pcbench"] += accuracy(model, t, found.images, its)
        passes["pcbench"] += made
        readout = Readout(model, t)
        start = time.perf_counter()
        attack = AutoAttack(readout, norm="Linf", eps=epsilon, version="standard", seed=0, device="cpu")
        theirs, _ = attack.run_standard_evaluation(piece, its, batch_size=chunk)
        times["official"].append(time.perf_counter() - start)
        left["official"] += accuracy(model, t, theirs, its)
        passes["official"] += readout.passes
        done += len(its)
        print(
            f"AutoAttack on {done}: left pcbench {left['pcbench']}, official {left['official']}; seconds "
            f"{sum(times['pcbench']):.0f}, {sum(times['official']):.0f}; passes {passes['pcbench']}, "
            f"{passes['official']}",
            flush=True,
        )
    ratio = statistics.median(times["official"]) / statistics.median(times["pcbench"])
    print(f"\nAutoAttack: {ratio:.2f} times the speed of the official code (ratio of medians over chunks of {chunk})")


def strength(model: TemporalClassifier, t: int, images: Tensor, labels: Tensor, epsilon: float, asked: int) -> None:
    """What each attack leaves."""
    print(f"\n| attack | right of {asked} | percent | passes | seconds |\n|---|---|---|---|---|")
    for label, (name, loss, options) in STRENGTH.items():
        start = time.perf_counter()
        found, passes = ours(model, t, images, labels, epsilon, name, loss, **options)
        seconds = time.perf_counter() - start
        right = accuracy(model, t, found.images, labels)
        print(f"| {label} | {right} | {100 * right / asked:.1f} | {passes} | {seconds:.0f} |", flush=True)


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vgg16-cifar", "pvgg16-cifar", "resnet18-cifar"])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--epsilon", default="2/255")
    parser.add_argument("--timestep", type=int, default=5, help="of networks with dynamics")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parts", nargs="+", default=["pgd", "apgd", "square", "autoattack"])
    parser.add_argument("--chunk", type=int, default=50)
    parser.add_argument("--strength", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    epsilon = float(Fraction(arguments.epsilon))
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}")
    for name in arguments.models:
        model = load_model(name)
        t = arguments.timestep if model.has_dynamics else 0
        images, labels = cifar10(arguments.images)
        with torch.no_grad():
            right = torch.cat([model(piece, timesteps=t)[-1].argmax(-1) for piece in images.split(BATCH)]) == labels
        images, labels = images[right], labels[right]
        print(f"\n## {name} at t = {t}, L-inf {arguments.epsilon}, {len(labels)} of {arguments.images} images right")
        if arguments.strength:
            strength(model, t, images, labels, epsilon, arguments.images)
            continue
        gradient_attacks(model, t, images, labels, epsilon, arguments.rounds, arguments.parts)
        if "autoattack" in arguments.parts:
            autoattack(model, t, images, labels, epsilon, arguments.chunk)


if __name__ == "__main__":
    main()
