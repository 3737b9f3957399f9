"""Feedback weights by least squares: one pass over the images, then one linear system for each predictor.

The loss is that of `feedback`, whose N regressions are solved exactly instead of descended, except that a ReLU behind
a predictor is left out of the equations (`least_squares`). What the ReLU then adds to the error, or takes off, is
reported for each PCoder: where the layer below is never negative it can only take off.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import psutil
import torch
from torch import Tensor

from pcbench.data.images import ImageSet
from pcbench.errors import UserError
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.training.batches import Views, evaluation_batches, loader, split
from pcbench.training.feedback import Decoders, levels
from pcbench.training.folder import Row
from pcbench.training.least_squares import Regression, linear_parts
from pcbench.training.loop import Progress, Report

CHOOSING = 32  # held-out images that ridges are chosen on: their activations are kept


@dataclass(frozen=True)
class SolutionRecipe:
    """How feedback weights are solved for. Nothing is drawn at random.

    Attributes:
        held_out: share of the images that ridges are chosen on and explained variances reported on.
        batch_size: images in one forward pass; results do not depend on it, up to rounding.
        dtype: "bfloat16" runs the backbone in mixed precision; sums and systems are float64 in any case.
        refinements: further passes in which predictors with a ReLU behind them are refined for it (`least_squares`).
        half: round the solution to half precision, as it will be stored, before it is judged.
    """

    held_out: float = 0.1
    batch_size: int = 32
    dtype: Literal["float32", "bfloat16"] = "float32"
    refinements: int = 0
    half: bool = True

    def __post_init__(self) -> None:
        """Raises UserError: a value makes no sense."""
        for name, least in {"batch_size": 1, "refinements": 0}.items():
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; the smallest is {least}")
        if not 0 < self.held_out < 1:
            raise UserError(
                f"the held-out share is {self.held_out}; least squares choose their ridges on held-out images, so it "
                "is above 0 and below 1"
            )

    def describe(self) -> str:
        """One line."""
        return "least squares, " + ", ".join(f"{name} {value}" for name, value in asdict(self).items())


class FeedbackSolution:
    """The least squares of all predictors of a network.

    Args:
        model: a predictive network; its predictors are set in place.
        images: what to train on; labels play no part.
        recipe: how.
        device: where the backbone runs and sums are gathered; systems are solved on the CPU.
        workers: processes that read images.

    Raises:
        UserError: a predictor that least squares do not apply to, too few images, or too little memory.
    """

    def __init__(
        self,
        model: PredictiveClassifier,
        images: ImageSet,
        recipe: SolutionRecipe,
        device: torch.device | str = "cpu",
        *,
        workers: int = 0,
    ) -> None:
        self.recipe, self.images, self.workers = recipe, images, workers
        self.device = torch.device(device)
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self.decoders = Decoders([pcoder.get_submodule("predictor") for pcoder in model.network.pcoders]).eval()
        self._parts = [linear_parts(part, n) for n, part in enumerate(self.decoders.predictors, start=1)]
        probe = levels(self.model, torch.zeros(1, *model.input_size, device=self.device))
        self.regressions = [Regression(part, probe[n + 1], probe[n], self.device) for n, part in enumerate(self._parts)]
        self._check_images()
        self.train_positions, self.held_out = split(images.ids, recipe.held_out)
        self._check_memory()
        self._views = Views(images, model.preprocessing, None, 0)
        self.rows: list[Row] = []

    def _check_images(self) -> None:
        needed = [regression.images_needed for regression in self.regressions]
        share = self.recipe.held_out
        least = next(n for n in itertools.count(max(needed)) if 1 <= round(share * n) <= n - max(needed))
        if len(self.images) < least:
            n = needed.index(max(needed))
            raise UserError(
                f"{len(self.images)} images are too few for least squares: PCoder {n + 1} has "
                f"{max(self.regressions[n].unknowns):,} values in a window and needs {needed[n]} images to train on, "
                f"so with {self.recipe.held_out:g} held out at least {least}; --method gradient takes any number"
            )

    def _check_memory(self) -> None:
        gathered = sum(regression.gathered_bytes for regression in self.regressions)
        solved = [regression.solved_bytes for regression in self.regressions]
        if self.recipe.refinements:  # all matrices stay
            solved.append(sum(size for size, part in zip(solved, self._parts, strict=True) if part.rectified))
        needed, free = gathered + max(solved), psutil.virtual_memory().available
        if needed > free:
            n = solved.index(max(solved[: len(self._parts)]))
            raise UserError(
                f"least squares need {needed / 1e9:.1f} GB of memory (most of it for PCoder {n + 1}) and "
                f"{free / 1e9:.1f} GB are free; --method gradient needs less"
            )

    def run(self, progress: Report = lambda _: None) -> list[Row]:
        """Solve, and judge on the held-out images.

        Returns:
            One row a PCoder: `pcoder`; `unknowns`, values in a window; `ridge` in units of their mean variance;
            `train_error`, mean squared, before the ReLU; `held_out_error` and `explained_variance` as trained;
            `explained_variance_linear` without the ReLU; `seconds` for its system.
        """
        passes = 1 + self.recipe.refinements
        steps = passes * len(self.train_positions) + len(self.held_out) + len(self.regressions)
        seen = 0

        def told(count: int) -> None:
            nonlocal seen
            seen += count
            progress(Progress(0, 1, seen, steps, None))

        for found in self._batches(self.train_positions):
            for n, regression in enumerate(self.regressions):
                regression.add(found[n + 1], found[n])
            told(len(found[0]))
        kept = [torch.cat(parts) for parts in zip(*self._batches(self.held_out[:CHOOSING]), strict=True)]
        for n, regression in enumerate(self.regressions):
            begun = time.monotonic()
            unknowns = max(regression.unknowns)
            refine = self.recipe.refinements > 0 and self._parts[n].rectified
            solution = regression.solve(kept[n + 1], kept[n], refine=refine)
            row: Row = {"pcoder": n + 1, "unknowns": unknowns, "ridge": solution.ridge}
            self.rows.append(row | {"train_error": solution.training_error, "seconds": time.monotonic() - begun})
            told(1)
        del kept
        self._refine(told)
        if self.recipe.half:
            for n in range(len(self._parts)):
                self._round(n)
        self._judge(told)
        return self.rows

    def _refine(self, told: Callable[[int], None]) -> None:
        for step in range(self.recipe.refinements):
            for found in self._batches(self.train_positions):
                for n, regression in enumerate(self.regressions):
                    if self._parts[n].rectified:
                        regression.add_again(found[n + 1], found[n])
                told(len(found[0]))
            for n, regression in enumerate(self.regressions):
                if self._parts[n].rectified:
                    regression.refine(last=step == self.recipe.refinements - 1)

    def _round(self, n: int) -> None:
        for parameter in self._parts[n].last.parameters():
            rounded = parameter.half().float()
            if not bool(rounded.isfinite().all()):
                raise UserError(f"the weights of PCoder {n + 1} do not fit half precision; add --no-half")
            parameter.copy_(rounded)

    def _judge(self, told: Callable[[int], None]) -> None:
        """Add errors and explained variances on the held-out images to the rows."""
        count = len(self._parts)
        totals = torch.zeros(5, count, dtype=torch.float64)  # error, error without ReLU, n, sum, squares
        for found in self._batches(self.held_out):
            for n, part in enumerate(self._parts):
                target = found[n].double()
                with torch.no_grad():
                    linear: Tensor = part.last(part.fixed(found[n + 1]))
                predicted = linear.relu() if part.rectified else linear
                errors = [float((p.double() - target).square().sum()) for p in (predicted, linear)]
                sums = [float(target.sum()), float(target.square().sum())]
                totals[:, n] += torch.tensor([*errors, target.numel(), *sums], dtype=torch.float64)
            told(len(found[0]))
        error, without, size, total, squares = totals
        variance = squares / size - (total / size).square()
        for n, row in enumerate(self.rows):
            row["held_out_error"] = float(error[n] / size[n])
            row["explained_variance"] = float(1 - error[n] / size[n] / variance[n])
            row["explained_variance_linear"] = float(1 - without[n] / size[n] / variance[n])

    def _batches(self, positions: list[int]) -> Iterator[list[Tensor]]:
        """e_0 .. e_N of images, float32, in batches."""
        batches = evaluation_batches(positions, self.recipe.batch_size)
        for images, _, _ in loader(self._views, batches, self.workers, self.device):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.dtype == "bfloat16"):
                found = levels(self.model, images.to(self.device, non_blocking=True))
            yield [level.float() for level in found]
