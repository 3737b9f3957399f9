"""The interface between a condition and the images: what is perturbed, where, and with which random numbers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from pcbench.errors import UserError
from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier
from pcbench.registry import Registry


@dataclass(frozen=True)
class Context:
    """What a perturbation may look at besides the images.

    Attributes:
        ids: B stable image ids; key every random number with (seed, id, condition).
        labels: (B,) int64, on the images' device.
        seed: of the run.
        model: the model under test, in eval mode, on the images' device: attacks need its gradients, noise in
            normalised units its standard deviation.
        timesteps: T of the run.
    """

    ids: list[str]
    labels: Tensor
    seed: int
    model: TemporalClassifier
    timesteps: int


@dataclass(frozen=True)
class Perturbed:
    """Perturbed images, and what a record should say about each besides the prediction.

    Attributes:
        images: (B, C, H, W) float. In [0, 1], but for noise that is defined in normalised units.
        columns: name -> (B,) tensor: further columns of the records ("attacked", "distance").
    """

    images: Tensor
    columns: Mapping[str, Tensor] = field(default_factory=dict)


class Perturbation(ABC):
    """A kind of perturbation, made for one condition. Immutable and picklable: it travels to worker processes.

    Exactly one of the two methods is overridden, or neither for clean images:
    - `on_uint8` needs no model; it runs in worker processes (or on the model's device), before the conversion to
      float, and its result is shared by all the models of a run.
    - `on_float` runs beside the model.

    A fresh object is made for each cell; its batches arrive in order, and `report` is asked after the last.

    Attributes:
        condition: the condition that it was made for.
        shared: True when the result does not depend on the model.
        on_device: True when `on_uint8` is fast on an accelerator, so that it runs there, beside the model, instead of
            in worker processes.
    """

    shared = True
    on_device = False

    def __init__(self, condition: Condition) -> None:
        self.condition = condition

    @classmethod
    @abstractmethod
    def conditions(cls, suite: str, table: Mapping[str, object]) -> list[Condition]:
        """The conditions that one [[perturbations]] table of a suite file describes. Raises UserError."""

    @classmethod
    def for_model(cls, condition: Condition, model: TemporalClassifier, timesteps: int) -> list[Condition]:
        """The condition as it applies to one model: itself, or several ("an attack at every timestep").

        Called when a run is planned, once for each model and condition of this kind, before anything is written.

        Args:
            condition: one that `conditions` returned, with the run's options merged into its params.
            model: the model under test.
            timesteps: T of the run; 0 for a model without dynamics.

        Raises:
            UserError: the condition makes no sense for this model (a timestep beyond T, too few classes).
        """
        return [condition]

    @classmethod
    def family(cls, condition: Condition) -> str | None:
        """Names the conditions of this kind that have work in common with this one, which `all_on_uint8` does once.

        None: it is made by itself.
        """
        return None

    @classmethod
    def all_on_uint8(
        cls, perturbations: Sequence["Perturbation"], images: Tensor, ids: list[str], seed: int
    ) -> list[Tensor]:
        """What `on_uint8` of each of the perturbations gives, which are of this kind and of one family."""
        return [perturbation.on_uint8(images, ids, seed) for perturbation in perturbations]

    def on_uint8(self, images: Tensor, ids: list[str], seed: int) -> Tensor:
        """(B, H, W, 3) uint8 -> the same form."""
        return images

    def on_float(self, images: Tensor, context: Context) -> Perturbed:
        """(B, C, H, W) float in [0, 1] -> Perturbed."""
        return Perturbed(images)

    def report(self) -> Mapping[str, object]:
        """What run.json says about the cell besides its records (JSON values), after its last batch."""
        return {}


def _adopt(name: str, thing: object) -> type[Perturbation]:
    if not isinstance(thing, type) or not issubclass(thing, Perturbation):
        raise UserError(f"{name} is no kind of perturbation: a subclass of pcbench.perturbations.base.Perturbation")
    return thing


KINDS = Registry[type[Perturbation]](
    "kind of perturbation", package="pcbench.perturbations", entry_points="pcbench.perturbations", adopt=_adopt
)
