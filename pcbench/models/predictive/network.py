"""The predictive network: a backbone cut at N modules, unrolled over timesteps. Equations: `PredictiveNet`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pcbench.errors import UserError
from pcbench.models.modes import evaluating
from pcbench.models.predictive.config import Hyperparameters, PredictiveConfig, Scaling, check_memory
from pcbench.models.predictive.cut import Cut, Holder, HookedCut, TracedCut, called_twice, find_modules
from pcbench.models.predictive.expressions import parse_predictor
from pcbench.models.predictive.pcoder import (
    LiveHyperparameters,
    PCoder,
    Weight,
    default_predictor,
    predicted_shape,
    reach,
)
from pcbench.models.predictive.state import Gradient, Precision, State, Terms, state_dtype
from pcbench.randomness import torch_generator

Observer = Callable[[int, Mapping[str, Tensor], Tensor], None]
"""(index of the PCoder, its terms by name, the new e_n), called at each update; the terms add up to e_n."""

Given = Hyperparameters | LiveHyperparameters | Mapping[str, Any]
"""One PCoder's hyperparameters, as they may be assigned."""


class Step:
    """What a timestep left behind.

    Attributes:
        t: the timestep, 0..T.
        logits: (B, classes).
        representations: e_n(t), one tensor (B, C, H, W) per PCoder.
        predictions: p_n(t), of the shape of the layer below. Computed when first read; what the next timestep needs
            of them is not computed again.
        errors: eps_n(t), (B,) per PCoder: mean squared difference of p_n and the layer below. Computed when read.
    """

    def __init__(self, t: int, logits: Tensor, state: State) -> None:
        self.t = t
        self.logits = logits
        self._state = state

    @property
    def representations(self) -> list[Tensor]:
        """e_n(t) of each PCoder."""
        return list(self._state.representations)

    @property
    def predictions(self) -> list[Tensor]:
        """p_n(t) of each PCoder."""
        return [self._state.prediction(n) for n in range(len(self._state.representations))]

    @property
    def errors(self) -> list[Tensor]:
        """eps_n(t) of each PCoder, (B,)."""
        return [self._state.error(n) for n in range(len(self._state.representations))]


class PredictiveNet(Holder):
    """A network with predictive-coding dynamics (Choksi, Mozafari et al., NeurIPS 2021, arXiv 2106.02749).

    The backbone's module n gives the drive ff_n; the representation e_n takes its place. e_0 is the input.

        t = 0   e_n(0) = ff_n(0), so that the logits are the backbone's
        t > 0   e_n(t) = b ff_n(t) + l p_(n+1)(t-1) + (1 - b - l) e_n(t-1) - a s_n g_n(t-1)    (n = N: no feedback)
        then    p_n(t) = predictor_n(e_n(t)),   g_n(t) = d/de_n mean((p_n(t) - e_(n-1)(t))^2), the mean per image

    with b, l, a the PCoder's `feedforward`, `feedback`, `pc`, and s_n = 1 (scaling "none") or K_n / sqrt(C_n) ("kc"),
    K_n the number of elements of a prediction. Nothing of a call stays in the module.

    States (representations, predictions, errors, updates) are of single precision or better, and so are the layers that
    carry a change of a state on to others: the error term can be 1e-5 of a state, and what a layer in bfloat16 makes of
    so small a change is its own rounding, a thousand times larger. Under autocast, what is computed in less are the
    products J^T (p - e) of the error gradient, which are then off by the rounding of their own size.

    Args:
        backbone: maps (B, C, H, W) to logits (B, classes). Kept, not copied: `pcbench.predify` copies it first.
        config: where to cut and what to predict with.

    Attributes:
        pcoders: one PCoder per cut, in the order of the configuration.
        scaling: of the error gradient, "none" or "kc".
        initial_noise: None, or a seed: e_n(0) is then standard normal noise, one draw per PCoder for all images (the
            logits at t = 0 are then not the backbone's).
        caches_first_stage: whether the part before the first PCoder runs once per call and not at every timestep.

    Raises:
        UserError: a module that does not exist, is not called, is called twice or returns no tensor; a predictor whose
            prediction does not have the shape of the layer below.
    """

    def __init__(self, backbone: nn.Module, config: PredictiveConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.scaling: Scaling = config.scaling
        self.initial_noise: int | None = None
        self._paths = find_modules(backbone, [pcoder.path for pcoder in config.pcoders])
        self._clone_input = False
        self._clone_values: tuple[bool, ...] = ()
        self._clone_representations = (False,) * len(self._paths)
        self._trace = True
        self._cut = self._make_cut()
        shapes = self._probe()
        reference = next(backbone.parameters(), torch.empty(0))
        self.pcoders = nn.ModuleList()
        for n, (table, values) in enumerate(zip(config.pcoders, config.hyperparameters(), strict=True)):
            below = shapes[n - 1] if n else tuple(config.input_size)
            try:
                predictor = parse_predictor(table.predictor or default_predictor(shapes[n], below))
                found = predicted_shape(predictor, shapes[n])
            except UserError as error:
                raise UserError(f"PCoder {n + 1} ({table.module}): {error}") from None
            if found != below:
                raise _misfit(n, below, found)
            pcoder = PCoder(predictor, values, reach(predictor, shapes[n]))
            self.pcoders.append(pcoder.to(device=reference.device, dtype=reference.dtype).train(backbone.training))
        self.training = self.pcoders.training = backbone.training  # .train() would wake frozen normalisations

    @property
    def paths(self) -> list[str]:
        """Paths of the modules of the PCoders, in the backbone."""
        return list(self._paths)

    @property
    def caches_first_stage(self) -> bool:
        """Whether the part of the backbone before the first PCoder runs once per call."""
        return isinstance(self._cut, TracedCut)

    @property
    def hyperparameters(self) -> list[LiveHyperparameters]:
        """Those of each PCoder as numbers; assigning to their attributes, or one or several sets, changes the network.

        Behind them are parameters, see PCoder, which are what an optimiser takes.
        """
        return [pcoder.hyperparameters for pcoder in self._pcoders()]

    @hyperparameters.setter
    def hyperparameters(self, values: Sequence[Given] | Given) -> None:
        given = list(values) if isinstance(values, Sequence) else [values] * len(self.pcoders)
        if len(given) != len(self.pcoders):
            raise UserError(f"{len(given)} sets of hyperparameters for {len(self.pcoders)} PCoders")
        try:
            made = [Hyperparameters(**(value if isinstance(value, Mapping) else value.values())) for value in given]
        except TypeError:
            raise UserError("hyperparameters are feedforward, feedback and pc, all three") from None
        check_memory(made)
        for pcoder, value in zip(self._pcoders(), made, strict=True):
            pcoder.hyperparameters = value

    def forward(
        self, x: Tensor, timesteps: int, *, gradient: Gradient = "exact", checkpointing: bool = False
    ) -> Tensor:
        """Logits (T + 1, B, classes) at t = 0..T. Arguments as those of `unroll`."""
        steps = self.unroll(x, timesteps, gradient=gradient, checkpointing=checkpointing)
        return torch.stack([step.logits for step in steps])

    def unroll(
        self,
        x: Tensor,
        timesteps: int,
        *,
        gradient: Gradient = "exact",
        checkpointing: bool = False,
        observer: Observer | None = None,
        last: int | None = None,
    ) -> Iterator[Step]:
        """The timesteps t = 0..T, one after the other.

        Args:
            x: (B, C, H, W), normalised as the backbone wants it.
            timesteps: T, the number of updates.
            gradient: "exact", or "truncated": g_n is a constant to autograd, as in published code.
            checkpointing: recompute each timestep in the backward pass instead of storing it.
            observer: told about every update, see `Observer`.
            last: let gradients through the last so many updates alone: the state before them is a constant to autograd.

        Raises:
            UserError: T < 0, or x has the wrong rank or number of channels, or a size that a predictor cannot meet.
        """
        if timesteps < 0:
            raise UserError(f"timesteps is {timesteps}; it counts updates after the feedforward pass, so 0 or more")
        if x.ndim != 4 or x.shape[1] != self.config.input_size[0]:
            channels = self.config.input_size[0]
            raise UserError(f"input has shape {tuple(x.shape)}; the network takes (batch, {channels}, height, width)")
        terms = Terms(self._pcoders(), self.scaling, gradient, Precision.around(x))
        with terms.precision.full():
            values = self._cut.first(self, x.clone() if self._clone_input else x)
        if timesteps > 0:  # here, so that it is not part of a timestep that is checkpointed
            for n in range(len(self._paths)):
                terms.predict(n)
        state: State | None = None
        e_0 = x.to(state_dtype(x.dtype))
        for t in range(timesteps + 1):
            if checkpointing and torch.is_grad_enabled():
                # What the sweep computes from the state before it has to be computed again, so within the sweep.
                logits, representations, seen = checkpoint(
                    lambda before: self._sweep(values, terms, before and before.fresh(), observer),
                    state,
                    use_reentrant=False,
                )
            else:
                logits, representations, seen = self._sweep(values, terms, state, observer)
            if last is not None and t <= timesteps - last:
                representations = [e.detach() for e in representations]
                seen = [e.detach() for e in seen]
            state = State(terms, e_0, representations, seen)
            yield Step(t, logits, state)

    def _sweep(
        self, values: Sequence[Any], terms: Terms, before: State | None, observer: Observer | None = None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """One bottom-up pass: logits, e_n(t), and e_n(t) as layers see it; from the state at t - 1 (None at t = 0)."""
        representations: dict[int, Tensor] = {}
        seen: dict[int, Tensor] = {}

        def exchange(n: int, drive: Tensor) -> Tensor:
            if n in representations:
                raise called_twice(self._paths[n])
            if before is None:
                seen[n] = self._initial(n, drive)
                representations[n] = seen[n].to(state_dtype(drive.dtype))
            else:
                representations[n] = self._updated(n, drive, terms, before, observer)
                seen[n] = representations[n].to(drive.dtype)
            return seen[n].clone() if self._clone_representations[n] else seen[n]

        if any(self._clone_values):
            values = [v.clone() if clone else v for v, clone in zip(values, self._clone_values, strict=True)]
        with terms.precision.full():
            logits = self._cut.rest(self, values, exchange)
        places = range(len(self._paths))
        return logits, [representations[n] for n in places], [seen[n] for n in places]

    def _initial(self, n: int, drive: Tensor) -> Tensor:
        """e_n(0)."""
        if self.initial_noise is None:
            return drive
        generator = torch_generator("initial state", self.initial_noise, n)
        return torch.randn((1, *drive.shape[1:]), generator=generator).to(drive).expand_as(drive)

    def _updated(self, n: int, drive: Tensor, terms: Terms, before: State, observer: Observer | None) -> Tensor:
        """e_n(t) from ff_n(t) and the state at t - 1.

        Computed as e + b (ff - e) + l (p - e) - a s g, which leaves e bit for bit as it is where ff = e and there is
        neither feedback nor error.
        """
        feedforward, feedback, pc = terms.feedforward[n], terms.feedback[n], terms.pc[n]
        e = before.representations[n]
        drive = drive.to(e.dtype)
        new = torch.lerp(e, drive, feedforward.to(e) if isinstance(feedforward, Tensor) else feedforward)
        above = before.prediction(n + 1) if _acts(feedback) else None
        if above is not None:
            new = _add(new, above - e, feedback)
        ascent, scale = before.ascent(n) if _acts(pc) else (None, 0.0)
        if ascent is not None:
            new = _add(new, ascent, -pc * scale)
        if observer is not None:
            zero = torch.zeros_like(e)
            shares = {
                "feedforward": feedforward * drive,
                "feedback": zero if above is None else feedback * above,
                "memory": (1 - feedforward - feedback) * e,
                "error": zero if ascent is None else -pc * scale * ascent,
            }
            observer(n, shares, new)
        return new

    def _pcoders(self) -> list[PCoder]:
        return [pcoder for pcoder in self.pcoders if isinstance(pcoder, PCoder)]

    def _make_cut(self) -> Cut:
        if not self._trace:
            return HookedCut(self._paths)
        try:
            return TracedCut(self, [self.backbone.get_submodule(path) for path in self._paths])
        except UserError:
            raise
        except Exception:  # torch.fx raises what the network's own code raises on symbolic values
            return HookedCut(self._paths)

    def _probe(self) -> list[tuple[int, ...]]:
        """Run once on noise: shapes (C, H, W) of the e_n, and what the network overwrites in place.

        The input, what the first stage hands over and the representations outlive a sweep; those whose version has
        changed after it are handed out as copies from then on.
        """
        reference = next(self.backbone.parameters(), torch.empty(0))
        with torch.inference_mode(False), torch.no_grad(), evaluating(self.backbone):
            x = torch.randn(1, *self.config.input_size, generator=torch_generator("probe")).to(reference)
            original = x.clone()
            seen: dict[int, tuple[Tensor, int]] = {}

            def exchange(n: int, drive: Tensor) -> Tensor:
                if n in seen:
                    raise called_twice(self._paths[n])
                seen[n] = (drive, drive._version)
                return drive

            try:
                values = self._cut.first(self, x)
                self._clone_input = x._version > 0
                versions = [v._version if isinstance(v, Tensor) else 0 for v in values]
                logits = self._cut.rest(self, values, exchange)
                expected = self.backbone(original) if self.caches_first_stage else logits
            except RuntimeError as error:
                shape = list(self.config.input_size)
                raise UserError(f"the backbone does not take inputs {shape}: {str(error).splitlines()[0]}") from None
        missing = [path for n, path in enumerate(self._paths) if n not in seen]
        if missing:
            raise UserError(f"module {missing[0]!r} is not called in a pass; choose another for the PCoder")
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise UserError("the backbone must return one tensor of logits, (batch, classes)")
        if not torch.allclose(logits, expected, rtol=1e-3, atol=1e-5):  # the trace missed something, e.g. an alias
            self._trace = False
            self._cut = self._make_cut()
            return self._probe()
        self._clone_values = tuple(
            isinstance(v, Tensor) and v._version > version for v, version in zip(values, versions, strict=True)
        )
        self._clone_representations = tuple(seen[n][0]._version > seen[n][1] for n in range(len(self._paths)))
        return [tuple(seen[n][0].shape[1:]) for n in range(len(self._paths))]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_cut"}  # its functions do not pickle

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._cut = self._make_cut()


def _acts(weight: Weight) -> bool:
    """Whether a term has to be computed. A tensor is not looked into: that would wait for the device."""
    return isinstance(weight, Tensor) or weight != 0.0


def _add(x: Tensor, y: Tensor, weight: Weight) -> Tensor:
    """The sum x + weight y, in one pass."""
    if isinstance(weight, Tensor):
        return torch.addcmul(x, y.to(x.dtype), weight.to(x))
    return torch.add(x, y, alpha=weight)


def _misfit(n: int, expected: tuple[int, ...], found: tuple[int, ...]) -> UserError:
    return UserError(
        f"PCoder {n + 1}: its predictor gives shape {list(found)}, but the layer below has {list(expected)}"
    )
