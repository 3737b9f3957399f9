"""How models compute: how many images at once, compiled or not, in which precision. None of it decides a prediction."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pcbench.harness.evaluate import out_of_memory
from pcbench.harness.plan import Plan
from pcbench.models.base import TemporalClassifier
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.pcoder import PCoder
from pcbench.models.predictive.routes import Mode, choose_routes, use_routes
from pcbench.models.predictive.spectral import DIRECT

# More images at once are no faster (measured with pefficientnet-lite0 on 2 CPU cores; on CUDA this fills the device).
LARGEST_BATCH = {"cpu": 32, "cuda": 512}
_SHARE = 0.5  # of the free memory; the rest is for gradients, workers and other programs
_CGROUP = Path("/sys/fs/cgroup")
_weak: Any = StorageWeakRef  # untyped in torch


def batch_for(plan: Plan, device: torch.device, images: int, sharing: int = 1) -> int:
    """`batch_that_fits` for the models of a plan, each with the longest T that it is run for."""
    models = [(plan.subjects[subject].model, timesteps) for subject, timesteps in plan.longest().items()]
    return batch_that_fits(models, device, plan.dtype, images, sharing)


def batch_that_fits(
    models: Sequence[tuple[TemporalClassifier, int]],
    device: torch.device,
    dtype: torch.dtype,
    images: int,
    sharing: int = 1,
) -> int:
    """The largest batch, no larger than it is useful, that is expected to fit into half of the free memory.

    An estimate to begin with: attacks need more, other programs take some, and `Chunks` halves what does not fit.

    Args:
        models: with T of each.
        device: that they are on.
        dtype: of autocast; torch.float32 for none.
        images: number of images of the run.
        sharing: processes that share the memory.

    Returns:
        1 or more.
    """
    size = min(LARGEST_BATCH[device.type], images)
    for model, timesteps in models:
        needed = memory_of_one(model, timesteps, device, dtype)
        size = min(size, int(_SHARE * free_memory(device)) // max(1, needed * sharing))
    return max(1, size)


def memory_of_one(model: TemporalClassifier, timesteps: int, device: torch.device, dtype: torch.dtype) -> int:
    """Bytes that one image needs on its way through a model, at their highest, measured; T up to 2 tells it.

    Scratch memory inside of operators is counted on CUDA only.
    """
    image = torch.zeros(1, *model.input_size, device=device)

    def once() -> None:
        with torch.inference_mode(), torch.autocast(device.type, dtype, dtype != torch.float32):
            model(image, timesteps=min(timesteps, 2))

    try:
        if device.type == "cuda":
            once()  # libraries allocate what they keep
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            once()
            return int(torch.cuda.max_memory_allocated(device) - before)
        with _Held() as held:
            once()
        return int(held.peak)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error):  # the sweep will say so, with what to do
            return free_memory(device)
        raise


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take: of the device, or of the machine and the container it runs in."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + reserved)
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no such limit ("max"), or another system
        return free
    return max(0, min(free, limit - used))


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Adds up the memory of the tensors that operators make, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.peak: int = 0
        self._alive: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self._alive = {place: held for place, held in self._alive.items() if not held[0].expired()}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._alive.setdefault(storage.data_ptr(), (_weak(storage), storage.nbytes()))
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return out


@contextmanager
def tf32_allowed(allowed: bool, device: torch.device) -> Iterator[None]:
    """Within, convolutions and matrix products on CUDA may round their float32 operands to TF32, or may not."""
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def choose_predictors(
    plan: Plan, subjects: Iterable[int], mode: Mode, batch: int, device: torch.device
) -> dict[int, dict[str, Any]]:
    """Choose how the large predictors of predictive networks compute, and set it; see `choose_routes`.

    Args:
        plan: of the run.
        subjects: indices of the models; those that are no predictive networks are left out.
        mode: "direct", "fft" or "measured".
        batch: number of images at once.
        device: of the models.

    Returns:
        Index of the model -> record.
    """
    chosen = {}
    for index in sorted(subjects):
        model = plan.subjects[index].model
        if isinstance(model, PredictiveClassifier):
            with torch.autocast(device.type, plan.dtype, plan.dtype != torch.float32):
                chosen[index] = choose_routes(model.network, batch, mode)
    return chosen


@contextmanager
def routes_restored(plan: Plan) -> Iterator[None]:
    """Within, predictors compute directly until something else is set; after it, networks (a user's own) as before."""
    networks = [subject.model.network for subject in plan.subjects if isinstance(subject.model, PredictiveClassifier)]
    pcoders = [pcoder for network in networks for pcoder in network.pcoders if isinstance(pcoder, PCoder)]
    before = [pcoder.route for pcoder in pcoders]
    for pcoder in pcoders:
        pcoder.route = DIRECT
    try:
        yield
    finally:
        for pcoder, route in zip(pcoders, before, strict=True):
            pcoder.route = route


def use_predictors(plan: Plan, chosen: Mapping[int, Mapping[str, Any]]) -> None:
    """Set what `choose_predictors` chose, on the same plan in another process.

    Raises:
        UserError: this machine's PyTorch cannot compute it.
    """
    for index, record in chosen.items():
        model = plan.subjects[index].model
        assert isinstance(model, PredictiveClassifier)
        use_routes(model.network, record)


class Compiled:
    """A model's rollout through torch.compile, for batches of one size; for all else, and for gradients, as it is.

    Args:
        rollout: of the model.
        shape: (T, B) that is compiled. Others (a last, smaller batch) are not worth a compilation of their own.
    """

    def __init__(self, rollout: Callable[[Tensor, int], Tensor], shape: tuple[int, int]) -> None:
        self._eager = rollout
        self._compiled = torch.compile(rollout, dynamic=False)
        self._shape = shape
        self.enabled = True

    def __call__(self, x: Tensor, timesteps: int) -> Tensor:
        """See TemporalClassifier.rollout."""
        compiled = self.enabled and (timesteps, len(x)) == self._shape and not torch.is_grad_enabled()
        return (self._compiled if compiled else self._eager)(x, timesteps)


def compile_models(
    plan: Plan, subjects: Iterable[int], batch: int, device: torch.device, say: Callable[[str], None] = lambda _: None
) -> Iterator[str]:
    """Compile models of a plan, see `compile_where_it_pays`; yields what came of each.

    Args:
        plan: of the run.
        subjects: indices of the models.
        batch: number of images at once.
        device: of the models.
        say: is told what is going on.
    """
    for index in sorted(subjects):
        model = plan.subjects[index].model
        timesteps = max(cell.timesteps for cell in plan.cells if cell.subject == index)
        say(f"compiling {model.name}")
        yield compile_where_it_pays(model, timesteps, batch, device, plan.dtype)


def compile_where_it_pays(
    model: TemporalClassifier, timesteps: int, batch: int, device: torch.device, dtype: torch.dtype
) -> str:
    """Compile a model, and keep that if it works and one batch is faster than without.

    Returns:
        What came of it, one line.
    """
    rollout = Compiled(model.rollout, (timesteps, batch))
    model.rollout = rollout  # type: ignore[method-assign]  # this model's alone
    images = torch.zeros(batch, *model.input_size, device=device)

    def seconds() -> float:
        start = time.perf_counter()
        with torch.inference_mode(), torch.autocast(device.type, dtype, dtype != torch.float32):
            model(images, timesteps=timesteps)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    try:
        compiling = seconds()
        compiled = min(seconds(), seconds())
    except Exception as error:  # a compiler raises what it likes: nothing to compile with, a construct it does not know
        rollout.enabled = False
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"{model.name}: torch.compile failed, so it runs without: {reason}"
    rollout.enabled = False
    seconds()
    ratio = min(seconds(), seconds()) / compiled
    rollout.enabled = ratio > 1
    if ratio <= 1:
        return f"{model.name}: torch.compile does not pay ({ratio:.2f} times the speed), so it runs without"
    return f"{model.name}: torch.compile gives {ratio:.2f} times the speed, after {compiling:.0f} s of compiling"
