"""Whether a plug-in that makes or changes images does what all else relies on; see `pcbench.harness.conformance`."""

import pickle
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pcbench.data.classes import class_names
from pcbench.data.images import ImageSet
from pcbench.errors import UserError
from pcbench.harness.conformance import Fails, Skipped, Test, global_states
from pcbench.keys import Condition
from pcbench.models.base import Preprocessing, TemporalClassifier
from pcbench.perturbations.base import KINDS, Context, Perturbation, Perturbed
from pcbench.perturbations.corruptions.constants import SEVERITIES
from pcbench.perturbations.corruptions.own import CORRUPTIONS

_EPSILONS = {"linf": 8 / 255, "l2": 0.5, "l0": 10.0}
_SIDE = 32


def corruption_tests(name: str, images: Tensor) -> list[Test]:
    """The tests of a corruption, of ImageNet-C or of a plug-in. `images`: uint8 (B, H, W, 3), B >= 2."""
    ids = [f"image-{index}" for index in range(len(images))]

    def made(severity: int, rows: slice = slice(None), seed: int = 0) -> Tensor:
        table = {"kind": "corruption", "names": [name], "severities": [severity]}
        (condition,) = KINDS["corruption"].conditions("check", table)
        return KINDS["corruption"](condition).on_uint8(images[rows].clone(), ids[rows], seed)

    def form() -> None:
        for severity in SEVERITIES:
            found = made(severity)
            if found.dtype != torch.uint8 or found.shape != images.shape:
                raise Fails(f"at severity {severity} it gives {found.dtype} {tuple(found.shape)}")

    def strength() -> str:
        moved = [float((made(severity).float() - images.float()).abs().mean()) for severity in (1, 5)]
        if moved[1] == 0:
            raise Fails("at severity 5 it changes nothing")
        if moved[1] < moved[0]:
            raise Fails(f"severity 5 changes an image by {moved[1]:.3g} on average, severity 1 by {moved[0]:.3g}")
        return f"mean change of a pixel: {moved[0]:.3g} at severity 1, {moved[1]:.3g} at severity 5, of 255"

    def kept() -> None:
        if name not in CORRUPTIONS or name in CORRUPTIONS.broken:
            raise Skipped("it is not a plug-in's")
        before = images.clone()
        CORRUPTIONS[name].apply(images, 3, 0, ids)
        if not torch.equal(before, images):
            images.copy_(before)
            raise Fails("it changes the image that it is given; work on image.copy()")

    return [
        ("it gives uint8 images of the same size at severities 1 to 5", form),
        ("severity 5 changes more than severity 1", strength),
        ("it leaves the image that it is given as it is", kept),
        *_independence(lambda rows, seed: made(3, rows, seed), len(images)),
    ]


def attack_tests(name: str) -> list[Test]:
    """The tests of an attack, on a small smooth network made for them."""
    victim = _Victim().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    images = 0.3 + 0.4 * torch.rand(3, 3, _SIDE, _SIDE, generator=generator)
    labels = victim(images, timesteps=1)[-1].argmax(-1)
    condition = _attack_condition(name, victim)
    epsilon, norm = condition.severity, str(condition.params["norm"])

    def attacked(rows: slice = slice(None), seed: int = 0) -> Perturbed:
        ids = [f"image-{index}" for index in range(len(images))][rows]
        context = Context(ids=ids, labels=labels[rows], seed=seed, model=victim, timesteps=1)
        return KINDS["attack"](condition).on_float(images[rows].clone(), context)

    def form() -> None:
        found = attacked().images
        if found.shape != images.shape or not bool(found.isfinite().all()):
            raise Fails(f"it gives {tuple(found.shape)} for {tuple(images.shape)}, or values that are not finite")
        if float(found.min()) < 0 or float(found.max()) > 1:
            raise Fails(f"its images have values from {float(found.min()):.3g} to {float(found.max()):.3g}")

    def inside() -> str:
        moved = (attacked().images - images).flatten(1)
        distance = {"linf": moved.abs().amax(1), "l2": moved.norm(dim=1), "l0": (moved != 0).sum(1)}[norm]
        if float(distance.max()) > epsilon * 1.001 + 1e-6:
            raise Fails(f"an image moves by {float(distance.max()):.4g} in {norm}; epsilon is {epsilon:.4g}")
        if float(distance.max()) == 0:
            raise Fails("it changes no image of a network that is easy to fool")
        return f"{norm} distances up to {float(distance.max()):.4g} of {epsilon:.4g}"

    def columns() -> None:
        for column, values in attacked().columns.items():
            if len(values) != len(images):
                raise Fails(f"its column {column!r} has {len(values)} values for {len(images)} images")

    def untouched() -> None:
        before = {key: value.clone() for key, value in victim.state_dict().items()}
        attacked()
        if any(not torch.equal(before[key], value) for key, value in victim.state_dict().items()):
            raise Fails("it changes the network's parameters")
        if victim.training or any(p.requires_grad or p.grad is not None for p in victim.parameters()):
            raise Fails("it leaves the network in train mode, or its parameters with gradients")

    return [
        ("it gives finite images in [0, 1]", form),
        ("its images lie within epsilon, and not all where they were", inside),
        ("its columns have one value for each image", columns),
        ("it leaves the network as it is", untouched),
        *_independence(lambda rows, seed: attacked(rows, seed).images, len(images), seeds=False),
    ]


def data_tests(images: ImageSet, space: str, again: Callable[[], ImageSet]) -> list[Test]:
    """The tests of a data set: opened, the label space that it is registered with, and how it is opened again."""
    some = range(0, len(images.ids), max(1, len(images.ids) // 16))

    def labels() -> str:
        if images.label_space != space:
            raise Fails(f"it is registered with labels of {space}, and they are of {images.label_space}")
        try:
            classes = len(class_names(space))
        except UserError as error:
            raise Skipped(str(error)) from None
        wrong = [label for label in images.labels if not 0 <= label < classes]
        if wrong:
            raise Fails(f"label {wrong[0]} is none of 0..{classes - 1}")
        return f"{len(set(images.labels))} of {classes} classes"

    def ids() -> None:
        if not images.ids or len(images.ids) != len(images.labels):
            raise Fails(f"{len(images.ids)} ids and {len(images.labels)} labels")
        if len(set(images.ids)) < len(images.ids) or not all(isinstance(name, str) for name in images.ids):
            raise Fails("ids are not texts, each once")
        if list(again().ids) != list(images.ids):
            raise Fails("opened a second time, it has other ids or another order")

    def pixels() -> str:
        sizes = set()
        for position in some:
            image = images.decode(position, images.raw(position))
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise Fails(f"image {images.ids[position]} is {image.dtype} {image.shape}; it must be uint8 (H, W, 3)")
            if not np.array_equal(image, images.decode(position, images.raw(position))):
                raise Fails(f"image {images.ids[position]}, read twice, has two contents")
            sizes.add(image.shape[:2])
        return ", ".join(f"{height} x {width}" for height, width in sorted(sizes)[:3])

    def copies() -> None:
        copy = pickle.loads(pickle.dumps(images))  # noqa: S301 - made here
        if list(copy.ids) != list(images.ids) or copy.raw(0) != images.raw(0):
            raise Fails("its copy has other ids or contents, and worker processes read copies")

    return [
        ("its ids are texts, each once, in the same order every time", ids),
        ("its labels are those of its label space", labels),
        ("its images are uint8 (H, W, 3), the same whenever they are read", pixels),
        ("it can be pickled", copies),
    ]


def kind_tests(kind: type[Perturbation]) -> list[Test]:
    """The tests of a kind of perturbation, as far as they need no table of a suite."""

    def refuses() -> None:
        try:
            kind.conditions("check", {"kind": "check", "no such key": object()})
        except UserError:
            return
        raise Fails("it takes a table with a key that it cannot know; raise UserError, so that misspelt keys are seen")

    return [
        ("it refuses a table with an unknown key in one line", refuses),
    ]


def _independence(make: Callable[[slice, int], Tensor], count: int, *, seeds: bool = True) -> list[Test]:
    def batch() -> None:
        whole = make(slice(None), 0)
        alone = torch.cat([make(slice(index, index + 1), 0) for index in range(count)])
        if not torch.allclose(whole.float(), alone.float(), atol=1e-5):
            raise Fails("made alone, an image is another: it depends on the others of the batch, or on their order")

    def determinism() -> None:
        if not torch.equal(make(slice(None), 0), make(slice(None), 0)):
            raise Fails("made twice, an image is two: it draws from something else than what it is given")

    def other_seed() -> str:
        same = torch.equal(make(slice(None), 0), make(slice(None), 1))
        return "nothing of it is random" if same else "random, by the run's seed"

    def global_state() -> None:
        before = global_states()
        make(slice(None), 0)
        if global_states() != before:
            raise Fails("it draws from a global generator")

    tests: list[Test] = [
        ("an image does not depend on the others of the batch", batch),
        ("it makes the same twice", determinism),
        ("it leaves the global random generators alone", global_state),
    ]
    return [*tests, ("with another seed it works too", other_seed)] if seeds else tests


def _attack_condition(name: str, victim: TemporalClassifier) -> Condition:
    """The attack at the last timestep, in its own norm, at a usual epsilon. Raises UserError."""
    kind = KINDS["attack"]
    (first,) = kind.conditions("check", {"kind": "attack", "attack": name, "epsilons": [0.03], "at": ["T"]})
    epsilon = _EPSILONS.get(str(first.params["norm"]), 0.03)
    table = {"kind": "attack", "attack": name, "epsilons": [epsilon], "at": ["T"]}
    (condition,) = kind.for_model(kind.conditions("check", table)[0], victim, 1)
    return condition


class _Victim(TemporalClassifier):
    """Ten classes from smooth features of the image, weighed a little differently at each timestep."""

    def __init__(self) -> None:
        super().__init__(10, Preprocessing((_SIDE, _SIDE), (0.5,) * 3, (0.25,) * 3), timesteps=1)
        self.features = nn.Conv2d(3, 12, 4, stride=4)
        self.readout = nn.Linear(12 * 64, 10)
        generator = torch.Generator().manual_seed(3)
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.2, generator=generator)

    def rollout(self, x: Tensor, timesteps: int) -> Tensor:
        logits = self.readout(torch.tanh(self.features(x)).flatten(1))
        return torch.stack([logits * (1 + 0.1 * t) for t in range(timesteps + 1)])
