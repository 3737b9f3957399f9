"""Whether a plug-in does what everything else relies on: `pcbench check`. A test is a sentence, which holds or not."""

import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcbench.errors import UserError
from pcbench.harness.width import check_width
from pcbench.models.base import TemporalClassifier
from pcbench.models.resolve import Resolved, checksum

_ROUNDING = 1e-3  # by which a batch may change logits, of the largest: other kernels, other order of sums
_BFLOAT16 = 0.5  # by which bfloat16 may, which has 8 bits


@dataclass(frozen=True)
class Finding:
    """What one test found.

    Attributes:
        test: what should hold, one sentence.
        holds: whether it does; None where it could not be asked.
        says: what was seen, where it does not hold or needs saying.
    """

    test: str
    holds: bool | None
    says: str = ""


class Fails(Exception):  # noqa: N818 - it is an outcome
    """A test does not hold; the message says what was seen."""


class Skipped(Exception):  # noqa: N818 - it is an outcome
    """A test does not apply; the message says why."""


Test = tuple[str, Callable[[], str | None]]
"""A sentence, and what tries it: returns what is worth saying; raises Fails, Skipped, or what the plug-in raises."""


def run_tests(tests: list[Test]) -> Iterator[Finding]:
    """Each test's finding, in order, as it is made. What a plug-in raises is a finding too."""
    for test, ask in tests:
        try:
            yield Finding(test, True, ask() or "")
        except Fails as failure:
            yield Finding(test, False, str(failure))
        except Skipped as reason:
            yield Finding(test, None, str(reason))
        except Exception as error:
            yield Finding(test, False, f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0])


def model_tests(resolved: Resolved, model: TemporalClassifier, images: Tensor, seed: int = 0) -> list[Test]:
    """The tests of a network.

    Args:
        resolved: what it was built from.
        model: built, on the images' device.
        images: (B, C, H, W) in [0, 1], B >= 2.
        seed: that it was built with.
    """
    most = min(model.timesteps, 2) if model.has_dynamics else 1

    def ask(x: Tensor, timesteps: int) -> Tensor:
        with torch.no_grad():
            answers: Tensor = model(x, timesteps=timesteps)
        return answers

    def shape() -> str:
        for timesteps in (0, most):
            found, wanted = tuple(ask(images, timesteps).shape), (timesteps + 1, len(images), model.num_classes)
            if found != wanted:
                raise Fails(f"with T = {timesteps} it gives {found}, where {wanted} is right")
        if not bool(ask(images, most).isfinite().all()):
            raise Fails("some logits are not finite")
        return f"(T + 1, B, {model.num_classes})"

    def prefix() -> None:
        found, first = ask(images, most), ask(images, 0)
        if off(found[:1], first) > _ROUNDING:
            raise Fails(f"the answer at t = 0 changes by {off(found[:1], first):.2g} of the largest logit with T")
        if not model.has_dynamics and off(found, first.expand_as(found)) > 0:
            raise Fails("it says that it has no dynamics, and its answers change with t")

    def width() -> None:
        if resolved.label_space.endswith(" classes"):
            raise Skipped(f"it declares a number, {resolved.label_space}: labels are taken in the data's order")
        check_width(model, resolved.label_space)

    def batch() -> None:
        whole = ask(images, most)
        alone = torch.cat([ask(image[None], most) for image in images], dim=1)
        turned = ask(images.flip(0), most).flip(1)
        for what, found in (("alone", alone), ("in another order", turned)):
            if off(found, whole) > _ROUNDING:
                raise Fails(f"asked {what}, its logits change by {off(found, whole):.2g} of the largest")

    def determinism() -> None:
        if not torch.equal(ask(images, most), ask(images, most)):
            raise Fails("asked the same twice, it gives two answers")

    def global_state() -> None:
        before = global_states()
        ask(images, most)
        if global_states() != before:
            raise Fails("it draws from a global generator, so its answers depend on who drew before")

    def at() -> None:
        found, whole = torch.stack([model.at(t)(images) for t in range(most + 1)]).detach(), ask(images, most)
        if off(found, whole) > _ROUNDING:
            raise Fails(f"model.at(t) and model(...)[t] differ by {off(found, whole):.2g} of the largest logit")

    def gradients() -> None:
        x = images.clone().requires_grad_()
        with torch.enable_grad():
            logits = model(x, timesteps=most)
            for t in range(most + 1):
                if not logits[t].requires_grad:
                    raise Fails(f"at t = {t} the logits have no gradient: attacks that need one cannot run")
                (found,) = torch.autograd.grad(logits[t].logsumexp(-1).sum(), x, retain_graph=True, allow_unused=True)
                if found is None or not bool(found.any()):
                    raise Fails(f"at t = {t} the gradient is zero: attacks would find it robust")
                if not bool(found.isfinite().all()):
                    raise Fails(f"at t = {t} the gradient is not finite")

    def untouched() -> None:
        before = checksum(model)
        ask(images, most)
        awake = [name or "the model" for name, module in model.named_modules() if module.training]
        if awake:
            raise Fails(f"after a call, {awake[0]} is in train mode")
        if checksum(model) != before:
            raise Fails("a call changes its parameters or buffers")
        wanting = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        if wanting:
            raise Fails(f"a call makes its parameter {wanting[0]!r} want a gradient")

    def copies() -> None:
        copy = pickle.loads(pickle.dumps(model))  # noqa: S301 - made here
        with torch.no_grad():
            if not torch.equal(copy(images, timesteps=most), ask(images, most)):
                raise Fails("its copy gives other answers")

    def rebuilt() -> None:
        if checksum(resolved.build(images.device, seed)) != checksum(model):
            raise Fails("built a second time, with the same seed, it has other parameters")

    def bfloat16() -> str:
        whole = ask(images, most)
        with torch.autocast(images.device.type, torch.bfloat16):
            found = ask(images, most).float()
        if not bool(found.isfinite().all()):
            raise Fails("some logits are not finite")
        if off(found, whole) > _BFLOAT16:
            raise Fails(f"its logits change by {off(found, whole):.2g} of the largest")
        return f"logits change by {off(found, whole):.1g} of the largest"

    return [
        ("it gives T + 1 answers, one row of logits for each image", shape),
        ("its logits are as many as there are classes", width),
        ("its answer at t = 0 is the same however far it is unrolled", prefix),
        ("an image's answer does not depend on the others of the batch", batch),
        ("it gives the same answer twice", determinism),
        ("it leaves the global random generators alone", global_state),
        ("model.at(t) is its answer at t", at),
        ("gradients reach the image at every t", gradients),
        ("a call leaves it as it is, in eval mode", untouched),
        ("it can be pickled", copies),
        ("built again, it is the same", rebuilt),
        ("it survives bfloat16", bfloat16),
    ]


def global_states() -> bytes:
    """Of the global random generators of torch, NumPy and Python, to compare."""
    return pickle.dumps((torch.get_rng_state().tolist(), np.random.get_state(), random.getstate()))  # noqa: NPY002 - those


def off(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def check_model(resolved: Resolved, images: Tensor, seed: int = 0) -> Iterator[Finding]:
    """The findings about a network; that it cannot be built is one.

    Args:
        resolved: from `pcbench.models.resolve.resolve`.
        images: see `model_tests`.
        seed: of what is drawn at random.
    """
    try:
        model = resolved.build(images.device, seed)
    except UserError as error:
        yield Finding("it can be built", False, str(error))
        return
    yield from run_tests(model_tests(resolved, model, images, seed))
