"""One timestep of pVGG16 and pEfficientNetB0: pcbench against a literal implementation of the equations.

    python benchmarks/timestep.py [--models NAME ...] [--device cpu|cuda] [--batch-size N] [--timesteps T] [--repeats N]
                                  [--dtypes ...] [--no-memory] [--literal-keeps-memory] [--limits] [--layers]
                                  [--gradients] [--routes direct|fft|measured] [--agreement NAME[=TAG] ...]

The rival is the public Predify package where it can be imported (see `rival.py`; put its folder on PYTHONPATH), else
the literal implementation, which is what one writes from the paper: forward hooks that run the whole network at every
timestep, and autograd for the gradient of the prediction error, in float32, PyTorch's defaults throughout. pcbench runs
the network as `load_model` gives it, the routes of large predictors chosen for the batch, the allocator told to keep
freed memory. Each has a process of its own and they take turns on the same images; a figure is the median over the
turns, a ratio that of the medians, and images/s counts one image and one timestep. A bfloat16 row compares pcbench in
bfloat16 with the rival in float32 and, in the last column, in bfloat16. With --literal-keeps-memory the rival is told
the same about its allocator. With --layers, each large predictor and its adjoint by either route, and how far the
products of spectra are from the machine's own limits. With --gradients, the gradient of the last answer with respect to
the image, by either route (the exact one, which the rivals cannot take). Prints Markdown tables.
"""

import argparse
import copy
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from limits import bandwidth, matrix_peak, operations
from rival import Predify, has_predify
from torch import Tensor, nn

from pcbench.data.geometry import Geometry
from pcbench.data.registry import load_data
from pcbench.errors import UserError
from pcbench.harness.memory import keep_freed_memory
from pcbench.models.predictive.network import PredictiveNet
from pcbench.models.predictive.routes import Mode, choose_routes, use_routes
from pcbench.models.predictive.spectral import kernels
from pcbench.models.resolve import load_model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Literal(nn.Module):
    """The equations with hooks and autograd, per-image means, scaling as the network's."""

    def __init__(self, net: PredictiveNet) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(net.backbone)
        self.predictors = nn.ModuleList(copy.deepcopy(pcoder.predictor) for pcoder in net.pcoders)
        self.hyperparameters = [copy.copy(values) for values in net.hyperparameters]
        self.reach = [float(pcoder.C_sqrt) for pcoder in net.pcoders] if net.scaling == "kc" else None
        self.e: list[Tensor] = []
        self.p: list[Tensor] = []
        self.g: list[Tensor] = []
        self.x = torch.empty(0)
        for n, table in enumerate(net.config.pcoders):
            self.backbone.get_submodule(table.path).register_forward_hook(self.hook(n))

    def hook(self, n: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        """The forward hook of PCoder n."""

        def update(module: nn.Module, inputs: tuple[Tensor, ...], ff: Tensor) -> Tensor:
            weights = self.hyperparameters[n]
            b, feedback, a = weights.feedforward, weights.feedback, weights.pc
            if len(self.e) <= n:
                e = ff.clone()
                self.e.append(e)
            elif n + 1 < len(self.predictors):
                e = b * ff + feedback * self.p[n + 1] + (1 - b - feedback) * self.e[n] - a * self.g[n]
            else:
                e = b * ff + (1 - b) * self.e[n] - a * self.g[n]
            self.e[n] = e
            with torch.enable_grad():
                leaf = e.detach().requires_grad_(True)
                p = self.predictors[n](leaf)
                below = self.x if n == 0 else self.e[n - 1]
                error = (p - below).square().flatten(1).mean(1).sum()
                (g,) = torch.autograd.grad(error, leaf)
            scale = 1.0 if self.reach is None else p[0].numel() / self.reach[n]
            fresh = len(self.p) <= n
            self.p[n : n + 1] = [p.detach()]
            self.g[n : n + 1] = [scale * g]
            assert not fresh or len(self.p) == n + 1
            return e.clone()

        return update

    def forward(self, x: Tensor, timesteps: int) -> Tensor:
        """Logits (T + 1, B, classes)."""
        self.e, self.p, self.g, self.x = [], [], [], x
        logits = torch.stack([self.backbone(x) for _ in range(timesteps + 1)])
        self.e, self.p, self.g = [], [], []
        return logits


def cast(device: str, dtype: str) -> AbstractContextManager[object]:
    """The context in which a network runs in a dtype."""
    return torch.autocast(device, DTYPES[dtype]) if dtype != "float32" else nullcontext()


def make(name: str, device: str, side: str, dtype: str) -> nn.Module:
    """Random weights: speed and rounding do not depend on the values' origin. The scaling is kc for both."""
    model = load_model(name, "random", device, scaling="kc")
    if side == "pcbench" and dtype != "float32":
        model.hold_weights_in(DTYPES[dtype])
    network = model.network
    if side == "pcbench":
        return network
    rival = Predify(network) if side == "predify" else Literal(network)
    return rival.eval().to(memory_format=torch.contiguous_format)


def images_for(name: str, device: str) -> Tensor:
    """The images of `samples`, normalised."""
    model = load_model(name, "random")
    data, geometry = load_data("samples"), Geometry.of(model.preprocessing)
    pixels = np.stack([geometry.prepare(data.read(i)) for i in range(len(data))])
    return model.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).to(device)


def prepared(x: Tensor, side: str) -> Tensor:
    """The images in the layout that a side gets them in."""
    return x if side == "pcbench" else x.contiguous()


def timed(network: nn.Module, x: Tensor, timesteps: int, device: str, dtype: str) -> tuple[float, Tensor]:
    """Seconds of one pass, and its logits."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.inference_mode() if isinstance(network, PredictiveNet) else torch.no_grad(), cast(device, dtype):
        logits = network(x, timesteps)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, logits


def _turns(
    connection: Connection,
    name: str,
    side: str,
    batch: int,
    timesteps: int,
    device: str,
    threads: int,
    keep: bool,
    routes: Mode,
) -> None:
    """The child process of a side: for every dtype that it is sent, one pass; sends back seconds and logits."""
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    x = prepared(images_for(name, device)[:batch], side)
    networks: dict[str, nn.Module] = {}
    while dtype := connection.recv():
        if dtype not in networks:
            networks[dtype] = made = make(name, device, side, dtype)
            if isinstance(made, PredictiveNet):
                choose_routes(made, batch, routes)
        network = networks[dtype]
        seconds, logits = timed(network, x, timesteps, device, dtype)
        connection.send((seconds, logits.float().cpu().numpy()))


class Side:
    """One of the two, in a process of its own."""

    def __init__(self, name: str, side: str, batch: int, timesteps: int, device: str, keep: bool, routes: Mode) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, name, side, batch, timesteps, device, torch.get_num_threads(), keep, routes)
        self._process = context.Process(target=_turns, args=arguments)
        self._process.start()

    def run(self, dtype: str) -> tuple[float, Tensor]:
        """Seconds of one pass in a dtype, and its logits."""
        self._connection.send(dtype)
        seconds, logits = self._connection.recv()
        return seconds, torch.from_numpy(logits)

    def close(self) -> None:
        """End the process."""
        self._connection.send("")
        self._process.join()


def _memory_child(name: str, side: str, batch: int, timesteps: int, device: str, dtype: str) -> float:
    x = prepared(images_for(name, device)[:batch], side)
    network = make(name, device, side, dtype)
    if device == "cuda":
        timed(network, x, timesteps, device, dtype)
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        timed(network, x, timesteps, device, dtype)
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    clear = Path("/proc/self/clear_refs")
    if not clear.exists():
        return math.nan
    timed(network, x, 0, device, dtype)
    clear.write_text("5")  # the high-water mark starts again from what is held now
    before = _status("VmRSS")
    timed(network, x, timesteps, device, dtype)
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def peak_memory(name: str, side: str, dtype: str, batch: int, timesteps: int, device: str) -> float:
    """MiB that one pass needs, at its highest, beyond what a fresh process holds with the network loaded."""
    arguments = (name, side, batch, timesteps, device, dtype)
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # for the child: freed tensors go back to the system
    with get_context("spawn").Pool(1) as pool:
        result: float = pool.apply(_memory_child, arguments)
    return result


def agreement(net: PredictiveNet, x: Tensor, timesteps: int, device: str) -> list[tuple[int, float, float]]:
    """(t, share of images with the same top-1, relative error of the logits) of bfloat16 against float32."""
    rows = []
    outputs = {}
    for dtype in DTYPES:
        with torch.inference_mode(), cast(device, dtype):
            outputs[dtype] = torch.cat([net(part, timesteps) for part in x.split(4)], 1).float().cpu()
    for t, (full, half) in enumerate(zip(outputs["float32"], outputs["bfloat16"], strict=True)):
        same = float((full.argmax(1) == half.argmax(1)).float().mean())
        rows.append((t, same, float((half - full).norm() / full.norm())))
    return rows


def print_limits(rates: dict[tuple[str, str], float], timesteps: int, device: str) -> None:
    """A table of what pcbench makes of the fastest matrix product or convolution that the machine shows."""
    print(f"\nMemory, copying: {bandwidth(device) / 1e9:.0f} GB/s (read and written).\n")
    print("| network | dtype | 1e9 operations (image, timestep) | pcbench, 1e9/s | fastest product, 1e9/s | share |")
    print("|---|---|---|---|---|---|", flush=True)
    for (name, dtype), rate in rates.items():
        network, x = make(name, device, "pcbench", "float32"), images_for(name, device)[:1]
        needed = operations(network, x, timesteps) / (timesteps + 1)
        peak = matrix_peak(DTYPES[dtype], device)
        share = f"{100 * needed * rate / peak:.0f} %"
        print(f"| {name} | {dtype} | {needed / 1e9:.2f} | {needed * rate / 1e9:.0f} | {peak / 1e9:.0f} | {share} |")


def print_layers(name: str, batch: int, device: str) -> None:
    """A table of the large predictors and their adjoints by either route, and of what the limits would allow.

    The limit is the sum of what the products and transforms take at the fastest product or convolution that the machine
    shows, or what reading the kernels takes, whichever is more.
    """
    network = make(name, device, "pcbench", "float32")
    assert isinstance(network, PredictiveNet)
    peak, speed = matrix_peak(torch.float32, device), bandwidth(device)
    record = choose_routes(network, batch, "measured")
    print(f"\n{name}, batch {batch}: {peak / 1e9:.0f}e9 operations/s, {speed / 1e9:.0f} GB/s, ", end="")
    print(f"kernels {kernels.nbytes / 2**20:.0f} MiB of {kernels.limit / 2**20:.0f}\n")
    print("| PCoder | direction | tile | direct, ms | spectra, ms | ratio | 1e9 operations | MiB | limit, ms | share |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for entry in record["choices"]:
        if entry["seconds"] is None:
            continue
        seconds, direct = entry["seconds"], entry["direct_seconds"]
        tile = "direct" if entry["tiles"] is None else str(entry["tiles"]["size"])
        limit = max(entry["operations"] / peak, entry["nbytes"] / speed)
        print(
            f"| {entry['pcoder']} | {entry['direction']} | {tile} | {1e3 * direct:.0f} | {1e3 * seconds:.0f} | "
            f"{direct / seconds:.1f} | {entry['operations'] / 1e9:.1f} | {entry['nbytes'] / 2**20:.0f} | "
            f"{1e3 * limit:.0f} | {100 * limit / seconds:.0f} % |",
            flush=True,
        )


def print_gradients(name: str, batch: int, timesteps: int, device: str, repeats: int, routes: Mode) -> None:
    """A row for the seconds of forward and backward by either route, in turns, and how far the gradients differ."""
    network, x = make(name, device, "pcbench", "float32"), images_for(name, device)[:batch].requires_grad_()
    assert isinstance(network, PredictiveNet)
    record = choose_routes(network, batch, routes)
    seconds: dict[str, list[float]] = {"direct": [], "routed": []}
    found: dict[str, Tensor] = {}
    for turn in range(repeats + 1):
        for side in seconds if turn % 2 else list(seconds)[::-1]:
            use_routes(network, record if side == "routed" else {"choices": []})
            start = time.perf_counter()
            (found[side],) = torch.autograd.grad(network(x, timesteps)[-1].logsumexp(1).sum(), x)
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[side].append(time.perf_counter() - start)
    direct, routed = (statistics.median(values) for values in seconds.values())
    difference = float((found["routed"] - found["direct"]).norm() / found["direct"].norm())
    print(f"\nGradient of {name} through t = 0..{timesteps}, batch {batch}: direct {direct:.2f} s, ", end="")
    print(f"routed {routed:.2f} s, ratio {direct / routed:.2f}; relative difference {difference:.1e}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["pefficientnet-b0", "pvgg16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--timesteps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--literal-keeps-memory", action="store_true")
    parser.add_argument("--layers", action="store_true", help="say what each large predictor takes by either route")
    parser.add_argument("--gradients", action="store_true", help="the same for the gradient with respect to the image")
    parser.add_argument("--routes", default="measured", choices=get_args(Mode))
    parser.add_argument("--limits", action="store_true", help="say how far pcbench is from the machine's own limits")
    parser.add_argument(
        "--agreement",
        nargs="*",
        default=["pefficientnet-lite0", "pefficientnet-b0=random", "pvgg16=random"],
        help="models, perhaps with a tag of weights, to compare in both dtypes on `samples`",
    )
    arguments = parser.parse_args()
    device, T, batch = arguments.device, arguments.timesteps, arguments.batch_size
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    rival = "predify" if has_predify() else "literal"
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads{load}"
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {device}: {where}; batch {batch}, T = {T}\n")
    print(
        f"| network | dtype | {rival} float32, images/s | pcbench, images/s | ratio | {rival}, MiB | pcbench, MiB | ",
        end="",
    )
    print(f"ratio to {rival} in the same dtype |\n|---|---|---|---|---|---|---|---|", flush=True)
    measured: dict[tuple[str, str], float] = {}
    for name in arguments.models:
        keeps = {rival: arguments.literal_keeps_memory, "pcbench": True}
        sides = {side: Side(name, side, batch, T, device, keep, arguments.routes) for side, keep in keeps.items()}
        for dtype in arguments.dtypes:
            runs = [(rival, "float32"), ("pcbench", dtype), (rival, dtype)][: 2 if dtype == "float32" else 3]
            logits = {run: sides[run[0]].run(run[1])[1] for run in runs}  # also the warm-up
            difference = float((logits[runs[0]] - logits[runs[1]]).norm() / logits[runs[0]].norm())
            assert difference < (1e-4 if dtype == "float32" else 5e-2), f"they disagree: {difference}"
            seconds: dict[tuple[str, str], list[float]] = {run: [] for run in runs}
            for turn in range(arguments.repeats):
                for run in runs if turn % 2 else runs[::-1]:
                    seconds[run].append(sides[run[0]].run(run[1])[0])
            rate = {run: batch * (T + 1) / statistics.median(values) for run, values in seconds.items()}
            measured[name, dtype] = rate["pcbench", dtype]
            theirs, ours, same = rate[runs[0]], rate[runs[1]], rate[rival, dtype]
            memory = (
                ["-", "-"]
                if arguments.no_memory
                else [f"{peak_memory(name, *run, batch, T, device):.0f}" for run in runs[:2]]
            )
            print(
                f"| {name} | {dtype} | {theirs:.2f} | {ours:.2f} | {ours / theirs:.2f} | {memory[0]} | {memory[1]} | "
                f"{ours / same:.2f} |",
                flush=True,
            )
        for side in sides.values():
            side.close()
    for name in arguments.models:
        if arguments.layers:
            print_layers(name, batch, device)
        if arguments.gradients:
            print_gradients(name, batch, T, device, arguments.repeats, arguments.routes)
    if arguments.limits:
        print_limits(measured, T, device)
    for asked in arguments.agreement:
        name, _, tag = asked.partition("=")
        try:
            model = load_model(name, tag or None, device=device)
        except UserError as error:
            print(f"\nno agreement for {asked}: {error}")
            continue
        print(f"\n{name}, weights {model.weights}, bfloat16 against float32 on `samples`:\n")
        print("| t | same top-1 | relative error of logits |\n|---|---|---|", flush=True)
        for t, same, error in agreement(model.network, images_for(name, device), T, device):
            print(f"| {t} | {100 * same:.0f} % | {100 * error:.2f} % |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
