"""Training of a classifier, with or without dynamics, on labelled images: seeded, resumable, on several processes."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from pcbench.errors import RunError, UserError
from pcbench.models.base import FeedforwardClassifier, TemporalClassifier
from pcbench.models.checkpoints import Metadata, configuration_hash, load, save
from pcbench.models.hah import HaHBlock, HaHCost
from pcbench.models.vgg import VGG16
from pcbench.training.batches import training_batches
from pcbench.training.distributed import Processes
from pcbench.training.examples import Examples, Labelled
from pcbench.training.folder import Row, TrainingFolder
from pcbench.training.loop import Loop, Report
from pcbench.training.recipes import ClassifierRecipe

WEIGHTS_FILE = "network.safetensors"


class ClassifierTraining(Loop[Labelled]):
    """A training of all parameters of a network; `run` begins it, or goes on from the state in its folder.

    Args:
        model: trained in place, from the parameters that it has.
        train: to learn from.
        test: to report on. Nothing is chosen by it: the last parameters are the ones that are kept.
        recipe: how.
        processes: where, and on how many.
        cost: the HaH cost to climb besides, for a network with HaH blocks.
        checkpoint_steps: after how many steps the state is kept; it always is at the end of an epoch.

    Raises:
        UserError: fewer images than a batch, a batch that does not divide, a cost for a network without HaH blocks.
    """

    def __init__(
        self,
        model: TemporalClassifier,
        train: Examples,
        test: Examples,
        recipe: ClassifierRecipe,
        processes: Processes,
        *,
        cost: HaHCost | None = None,
        checkpoint_steps: int = 200,
    ) -> None:
        if len(train) < recipe.batch_size:
            raise UserError(f"{len(train)} training images do not fill a batch of {recipe.batch_size}")
        if recipe.batch_size % processes.world:
            raise UserError(f"a batch of {recipe.batch_size} does not divide among {processes.world} processes")
        if cost is not None and _hah_network(model) is None:
            raise UserError(f"{model.name} has no HaH blocks, which the HaH cost is about")
        self.recipe, self.cost = recipe, cost
        layout = torch.channels_last
        self.model: TemporalClassifier = model.to(device=processes.device, memory_format=layout).requires_grad_(True)  # type: ignore[call-overload]  # torch's stubs lack this form
        self.train, self.test = train.to(processes.device), test.to(processes.device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = _optimiser(recipe, self.parameters)
        self.average = {name: tensor.clone() for name, tensor in model.state_dict().items()} if recipe.ema else {}
        per_epoch = len(train) // recipe.batch_size
        sums = 3  # cross-entropy, share correct at the last timestep, HaH cost
        super().__init__(recipe.epochs, per_epoch, recipe.batch_size, processes, checkpoint_steps, sums)

    def run(self, folder: TrainingFolder | None = None, progress: Report = lambda _: None) -> list[Row]:
        """Train to the end, and leave the model with the parameters to keep, in eval mode.

        With a folder: resume from its state, and keep state and log in it.

        Returns:
            The log, one row an epoch.

        Raises:
            RunError: the loss is not finite.
            UserError: the folder's state is damaged.
        """
        self.advance(folder, progress)
        if self.average:
            self.model.load_state_dict(self.average)
        self.model.requires_grad_(False).eval()
        return self.rows

    def _batches(self) -> Iterator[Labelled]:
        places = training_batches(
            list(range(len(self.train))),
            self.recipe.batch_size,
            range(self.step, self.steps),
            self.recipe.seed,
            self.processes.rank,
            self.processes.world,
        )
        return self.train.views(places, self.recipe)

    def _train_step(self, batch: Labelled) -> Tensor:
        rate = self.recipe.rate(self.step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        images, labels = batch
        self.model.train()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.recipe.dtype == "bfloat16"):
            logits, drives = self._forward(images)
        # One cross-entropy for each timestep that is supervised, of all of them at once.
        supervised = logits[-1:].float() if self.recipe.loss_over == "last" else logits.float()
        targets = labels.repeat(len(supervised))
        loss = F.cross_entropy(supervised.flatten(0, 1), targets, label_smoothing=self.recipe.label_smoothing)
        if not bool(loss.isfinite()):
            raise RunError(f"the loss is not finite at step {self.step}; try a lower learning rate")
        network = _hah_network(self.model)
        climbed = 0.0
        if self.cost is not None and network is not None:
            climbed = self.cost.add_gradients(network, drives)
        torch.autograd.backward([loss])
        _average_gradients(self.parameters, self.processes.world)
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimiser.step()
        self._update_average(self.step + 1)
        correct = (logits[-1].argmax(dim=1) == labels).double().mean()
        return torch.tensor([float(loss.detach()), float(correct), climbed], dtype=torch.float64)

    def _forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (T + 1, B, classes), and the HaH blocks' drives where a cost needs them; one pass."""
        network = _hah_network(self.model)
        if self.cost is None or network is None:
            return self.model(images, timesteps=self.recipe.timesteps), []
        logits, drives = network.forward_with_drives(self.model.normalise(images), of=HaHBlock)
        return logits.unsqueeze(0), drives

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        """Move the running mean towards the parameters; quickly at first, so that it forgets the initial ones."""
        decay = min(self.recipe.ema, (1 + step) / (10 + step))
        for name, tensor in self.model.state_dict().items() if self.average else ():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)

    def _row(self, speed: float, means: list[float]) -> Row:
        loss, correct, cost = means
        row: Row = {
            "epoch": self.epoch,
            "step": self.step,
            "learning_rate": self.recipe.rate(self.step - 1, self.steps),
            "images_per_second": speed,
            "train_loss": loss,
            "train_accuracy": correct,
        }
        if self.cost is not None:
            row["hah_cost"] = cost
        return row | self.evaluate()

    @torch.no_grad()
    def evaluate(self) -> Row:
        """Cross-entropy (nats) at the last timestep, and accuracy at each, on the test examples."""
        self.model.eval()
        parameters: Mapping[str, Tensor] = self.average or self.model.state_dict()
        _share_statistics(self.model, self.processes.world)
        sums = torch.zeros(self.recipe.timesteps + 2, dtype=torch.float64)
        for images, labels in self.test.evaluation(self.recipe.batch_size, self.processes.rank, self.processes.world):
            with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.recipe.dtype == "bfloat16"):
                logits: Tensor = functional_call(
                    self.model, dict(parameters), (images,), {"timesteps": self.recipe.timesteps}
                )
            logits = logits.float()
            sums[0] += F.cross_entropy(logits[-1], labels, reduction="sum").cpu()
            sums[1:] += (logits.argmax(dim=2) == labels).double().sum(dim=1).cpu()
        loss, *accuracies = (self.processes.total(sums) / len(self.test)).tolist()
        return {"test_loss": loss} | {f"accuracy_t{t}": value for t, value in enumerate(accuracies)}

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, tensor in state["average"].items():
            self.average[name].copy_(tensor)

    def _state(self) -> dict[str, object]:
        _share_statistics(self.model, self.processes.world)
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
        }


def start_with(model: TemporalClassifier, path: Path) -> str:
    """Load the weights of an earlier training of the same network. Returns the file's SHA-256.

    Raises:
        UserError: the file is damaged, or is of another network.
    """
    network = model.network if isinstance(model, FeedforwardClassifier) else model
    network.load_state_dict(load(path, network.state_dict(), architecture=model.name))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_weights(training: ClassifierTraining, folder: TrainingFolder, *, command: str, half: bool) -> Metadata:
    """Write a finished training's weights in the native format, and say in the file where they come from."""
    model = training.model
    recipe = ", ".join(f"{name} {value}" for name, value in asdict(training.recipe).items())
    accuracy = float(training.rows[-1][f"accuracy_t{training.recipe.timesteps}"])
    configuration = model.provenance.get("configuration")
    metadata = Metadata(
        architecture=model.name,
        configuration=configuration_hash(configuration) if isinstance(configuration, dict) else "",
        data=f"{training.train.name}: {len(training.train)} images, reported on {len(training.test)} others",
        recipe=f"{command}: {recipe}; accuracy at the last timestep {accuracy:.4f}",
    )
    network = model.network if isinstance(model, FeedforwardClassifier) else model
    return save(folder.path / WEIGHTS_FILE, network.state_dict(), metadata, half=half)


def _hah_network(model: TemporalClassifier) -> VGG16 | None:
    """The network inside, when it has HaH blocks."""
    network = getattr(model, "network", None)
    if isinstance(network, VGG16) and any(isinstance(block, HaHBlock) for _, block in network.blocks()):
        return network
    return None


def _optimiser(recipe: ClassifierRecipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if recipe.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        parameters, lr=recipe.learning_rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
    )


def _average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """The mean gradient over processes, in all of them. By hand, because the HaH gradients bypass `backward`."""
    if world == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, part in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _share_statistics(model: nn.Module, world: int) -> None:
    """The first process's running statistics, in all of them."""
    if world > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
