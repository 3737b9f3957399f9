"""The kind `attack`: adversarial examples for one readout of the unrolled network, judged at every timestep."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from pcbench.errors import UserError
from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier
from pcbench.perturbations.attacks.attack import ATTACKS, Problem
from pcbench.perturbations.attacks.isolation import frozen, seeded
from pcbench.perturbations.attacks.memory import wants_checkpointing
from pcbench.perturbations.attacks.norms import check_epsilon, distance, overshoot, project
from pcbench.perturbations.attacks.victim import Readout, Victim
from pcbench.perturbations.base import KINDS, Context, Perturbation, Perturbed
from pcbench.randomness import key
from pcbench.tables import Table

BASELINE = "baseline"
_RELATIVE = re.compile(r"T(?:/([1-9]\d*))?")


class AttackTable(Table):
    """`kind = "attack"`: one condition for each epsilon and attack timestep.

    Attributes:
        attack: a registered attack.
        variant: sets conditions apart that differ in more than epsilon and timestep ("double": "pgd-linf+double").
        epsilons: radii, numbers or fractions such as "8/255".
        at: whose answer is attacked: timesteps, "T", "T/2", "all", "mean" (of the probabilities over t = 0..T) or
            "worst" (the weakest timestep of each image).
        norm: where the attack has several; else its own.
        options: of the attack.
        target_offset: aim at class (label + offset) mod classes.
        target: aim at this class.
        samples: answers to average, for networks that draw their initial state.
        gradient: "exact" or "truncated": a comparison with the run's own gradient, so that in a run with
            --attack-gradient truncated the variant "truncated" becomes "exact".
        source: craft on this registered model instead ("baseline": the model's own feedforward baseline); a run
            (--attack-source) can name another.
        share: of the images to attack, chosen by their ids: for costly attacks.
        correct_through: attack only images that are classified correctly at every timestep up to this one.
    """

    attack: str
    variant: Annotated[str, Field(pattern="^[a-z0-9-]+$")] | None = None
    epsilons: Annotated[list[float | str], Field(min_length=1)]
    at: list[int | str] = Field(default=["T"], min_length=1)
    norm: str | None = None
    options: dict[str, int | float | bool] = Field(default_factory=dict)
    target_offset: int | None = None
    target: Annotated[int, Field(ge=0)] | None = None
    samples: Annotated[int, Field(ge=1)] = 1
    gradient: str | None = None
    source: str | None = None
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    correct_through: Annotated[int, Field(ge=0)] | None = None


class AttackImages(Perturbation):
    """Adversarial examples of one attack at one epsilon, for one readout.

    Only images that are classified correctly by the attacked readout are attacked, others pass unchanged. Columns:
    "attacked" (bool), "distance" (of the perturbation, in the attack's norm), "success" (the attacked readout is
    wrong, or says the target). An image's result depends on (seed, its id, the condition) and on no other image.
    """

    shared = False

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition)
        params = condition.params
        self.attack = ATTACKS[str(params["attack"])]
        self.norm = str(params["norm"])
        self.options = dict(_mapping(params["options"]))
        self._source: TemporalClassifier | None = None
        self._checkpointing: bool | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_source": None}

    @classmethod
    def conditions(cls, suite: str, table: Mapping[str, object]) -> list[Condition]:
        """One condition for each epsilon and readout; "T", "T/2" and "all" are settled by `for_model`."""
        read = AttackTable.read(suite, table)
        attack = ATTACKS[read.attack]
        where = f"suite {suite}, attack {attack.name}"
        norm = read.norm or attack.norms[0]
        if norm not in attack.norms:
            raise UserError(f"{where}: {attack.name} has no norm {norm!r}; it has {', '.join(attack.norms)}")
        if read.target is not None and read.target_offset is not None:
            raise UserError(f"{where}: give target or target_offset, not both")
        if (read.target is not None or read.target_offset is not None) and not attack.targeted:
            targeted = ", ".join(name for name, entry in ATTACKS if entry.targeted)
            raise UserError(f"{where}: {attack.name} cannot aim at a class; these can: {targeted}")
        params = read.model_dump(exclude={"kind", "variant", "epsilons", "at"})
        params |= {"norm": norm, "options": attack.with_options(read.options), "label": _label(read, norm)}
        found = []
        for text in read.epsilons:
            epsilon = parse_epsilon(text, where)
            check_epsilon(epsilon, norm, where)
            for at in read.at:
                check_readout(at, where)
                name = f"{params['label']}@{f't{at}' if isinstance(at, int) else at}"
                found.append(Condition("attack", name, "attack", epsilon, {**params, "at": at}))
        return found

    @classmethod
    def for_model(cls, condition: Condition, model: TemporalClassifier, timesteps: int) -> list[Condition]:
        """The condition with its timesteps settled, and with all that can be refused before the run refused."""
        attack = ATTACKS[str(condition.params["attack"])]
        params = dict(condition.params)
        where = f"attack {condition.perturbation} on {model.name or 'the model'}"
        check_epsilon(condition.severity, str(params["norm"]), where, model.input_size)
        if model.num_classes < attack.classes:
            raise UserError(f"{where}: {attack.name} needs {attack.classes} classes; there are {model.num_classes}")
        refusal = attack.refuses(condition.severity, model.input_size, _mapping(params["options"]))
        if refusal is not None and condition.severity > 0:
            raise UserError(f"{where}: {refusal}")
        target, offset = params.get("target"), params.get("target_offset")
        if isinstance(target, int) and target >= model.num_classes:
            raise UserError(f"{where}: target class {target} is out of range; classes are 0 to {model.num_classes - 1}")
        if isinstance(offset, int) and offset % model.num_classes == 0:
            raise UserError(
                f"{where}: target_offset {offset} is the label itself when there are {model.num_classes} classes"
            )
        gradient = _gradient(params)
        if params.get("gradient") == "truncated" == params.get("attack_gradient") and gradient in model.gradients:
            params["gradient"] = "exact"
            params["label"] = str(params["label"]).replace("+truncated", "+exact")
        elif gradient != "exact" and gradient not in model.gradients:
            if params.get("gradient") is not None:  # a comparison that this model has no part in
                return []
            if model.has_dynamics:
                raise UserError(f"{where}: no gradient {gradient!r}; it has {', '.join(model.gradients)}")
        if params.get("source") is not None:
            wanted = str(params.get("attack_source") or params["source"])
            source, params["source_weights"] = _settle_source(wanted, model, where)
            params["label"] = str(params["label"]).replace(f"+from:{params['source']}", f"+from:{source}")
            params["source"] = source
        elif attack.gradients:
            _check_differentiable(model, 0, where)
        through = params.get("correct_through")
        if model.has_dynamics and isinstance(through, int) and through > timesteps:
            raise UserError(f"{where}: its images are correct at t = 0..{through}, and the run ends at t = {timesteps}")
        settled = []
        for readout in settle_readout(params["at"], timesteps if model.has_dynamics else 0, model, where):
            place = f"t{readout}" if isinstance(readout, int) else readout
            name = f"{params['label']}@{place}"
            settled.append(replace(condition, perturbation=name, params={**params, "at": readout}))
        return settled

    def on_float(self, images: Tensor, context: Context) -> Perturbed:
        """Attack the images that are classified correctly. Runs whatever gradient mode the caller is in."""
        model = context.model
        source = self._crafted_on(model)
        readout = self._readout()
        last = context.timesteps if isinstance(readout, str) else readout
        with frozen(model), frozen(source), source.differentiated(self._gradient_of(source)):
            origin = images.detach().clone(memory_format=torch.contiguous_format).clamp(0, 1)
            labels = context.labels.detach().clone()
            targets = self._targets(labels, model.num_classes)
            chosen = self._chosen(origin, labels, targets, context)
            if self._checkpointing is None:
                self._checkpointing = self.attack.gradients and wants_checkpointing(
                    source, tuple(images.shape[1:]), last, self._together(origin)
                )
            result = images.detach().clone()
            success = torch.zeros(len(images), dtype=torch.bool, device=images.device)
            with source.differentiated(checkpointing=self._checkpointing):
                for rows in self._chunks(chosen, origin):
                    unique = list(dict.fromkeys(rows))
                    found, fooled = self._one(source, readout, origin, labels, targets, rows, context)
                    result[unique] = found[: len(unique)]
                    success[unique] = fooled[: len(unique)]
            attacked = torch.zeros_like(success)
            attacked[chosen] = True
            moved = distance(result, images.detach(), self.norm)
        return Perturbed(result, {"attacked": attacked, "distance": moved, "success": success})

    def _one(
        self,
        source: TemporalClassifier,
        readout: Readout,
        origin: Tensor,
        labels: Tensor,
        targets: Tensor | None,
        rows: list[int],
        context: Context,
    ) -> tuple[Tensor, Tensor]:
        """Adversarial examples of some rows of the batch, and whether they fool what they were crafted on."""
        epsilon = self.condition.severity
        goal = labels[rows] if targets is None else targets[rows]
        samples = int(str(self.condition.params["samples"]))
        victim = Victim(source, readout, context.timesteps, goal, samples)
        keys = [key(context.seed, context.ids[row], self.attack.name, str(readout), epsilon) for row in rows]
        problem = Problem(
            victim=victim,
            images=origin[rows],
            labels=labels[rows],
            targets=None if targets is None else targets[rows],
            norm=self.norm,
            epsilon=epsilon,
            options=self.options,
            keys=keys,
        )
        with seeded(keys[0], origin.device):
            found = origin[rows] if epsilon == 0 else self.attack.run(problem).detach()
            found = torch.where(found.isfinite(), found, origin[rows])
            if self.attack.minimal:
                found = overshoot(found, origin[rows])
            found = project(found, origin[rows], epsilon, self.norm)
            with torch.no_grad():
                prediction = victim(found).argmax(-1)
        return found, prediction == targets[rows] if targets is not None else prediction != labels[rows]

    def _readout(self) -> Readout:
        at = self.condition.params["at"]
        assert isinstance(at, int | str)
        return at

    def _gradient_of(self, source: TemporalClassifier) -> str:
        gradient = _gradient(self.condition.params)
        return gradient if gradient in source.gradients else "exact"

    def _crafted_on(self, model: TemporalClassifier) -> TemporalClassifier:
        name = self.condition.params.get("source")
        if name is None or name == model.name:
            return model
        if self._source is None:
            from pcbench.models.resolve import load_model

            weights = str(self.condition.params["source_weights"])
            self._source = load_model(str(name), weights, device=str(model.mean.device))
        return self._source

    def _targets(self, labels: Tensor, classes: int) -> Tensor | None:
        offset, target = self.condition.params["target_offset"], self.condition.params["target"]
        if isinstance(offset, int):
            return (labels + offset) % classes
        return torch.full_like(labels, target) if isinstance(target, int) else None

    def _chosen(self, origin: Tensor, labels: Tensor, targets: Tensor | None, context: Context) -> list[int]:
        """The rows to attack: those whose answer is right, and that belong to the share."""
        model, readout, through = context.model, self._readout(), self.condition.params["correct_through"]
        with torch.no_grad(), seeded(key(context.seed, "judge"), origin.device):
            if through is not None or self.condition.params["source"] is not None:
                answers = model(origin, timesteps=int(str(through or context.timesteps))).argmax(-1)
                right = (answers == labels).all(0) if through is not None else (answers == labels).any(0)
            else:
                victim = Victim(model, readout, context.timesteps, labels)
                right = victim(origin).argmax(-1) == labels
        if targets is not None:
            right &= targets != labels
        share = float(str(self.condition.params["share"]))
        return [
            row
            for row, name in enumerate(context.ids)
            if bool(right[row]) and key(context.seed, name, "share") / 2**63 < share
        ]

    def _together(self, images: Tensor) -> int:
        """How many images are attacked at once. Fixed, because a kernel's rounding depends on the batch size."""
        if not self.attack.batched or int(str(self.condition.params["samples"])) > 1:
            return 1
        if images.device.type != "cpu":
            return 32
        return max(1, min(64, 4 * 224 * 224 // (images.shape[2] * images.shape[3])))

    def _chunks(self, chosen: list[int], images: Tensor) -> Iterator[list[int]]:
        """The chosen rows in chunks of one size, the last filled up by repeating its last row."""
        size = self._together(images)
        for start in range(0, len(chosen), size):
            rows = chosen[start : start + size]
            yield rows + [rows[-1]] * (size - len(rows))


def _label(table: AttackTable, norm: str) -> str:
    """What comes before "@" in the results: attack, norm where it is not the attack's first, variant, source."""
    label = table.attack
    if norm != ATTACKS[table.attack].norms[0]:
        label += f"-{norm}"
    if table.variant is not None:
        label += f"+{table.variant}"
    return label if table.source is None else f"{label}+from:{table.source}"


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)
    return value


def _gradient(params: Mapping[str, Any]) -> str:
    """The suite's word on a condition before the run's (--attack-gradient), before "exact"."""
    return str(params.get("gradient") or params.get("attack_gradient") or "exact")


def parse_epsilon(text: float | str, where: str) -> float:
    """A radius as suites write it: a number, or a fraction such as "8/255". `where` is for the message of UserError."""
    try:
        return float(Fraction(text)) if isinstance(text, str) else text
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{where}: epsilon {text!r} is neither a number nor a fraction such as '8/255'") from None


def check_readout(at: int | str, where: str) -> None:
    """Refuse what is no readout: a negative timestep or an unknown word. `where` is for the message of UserError."""
    if isinstance(at, int):
        if at < 0:
            raise UserError(f"{where}: attack timestep {at}; the first is 0, the feedforward pass")
    elif at not in ("all", "mean", "worst") and not _RELATIVE.fullmatch(at):
        raise UserError(f"{where}: at {at!r}; known: timesteps (0, 1, ...), T, T/2, T/3, ..., all, mean, worst")


def settle_readout(at: object, timesteps: int, model: TemporalClassifier, where: str) -> list[Readout]:
    """The readouts that `at` stands for in a run of so many timesteps; without dynamics, t = 0.

    Raises:
        UserError: a timestep beyond the last.
    """
    if isinstance(at, int):
        if not model.has_dynamics:
            return [0]
        if at > timesteps:
            raise UserError(f"{where}: the run ends at t = {timesteps}; attack an earlier timestep or unroll further")
        return [at]
    word = str(at)
    if word == "all":
        return list(range(timesteps + 1))
    relative = _RELATIVE.fullmatch(word)
    if relative:
        return [timesteps // int(relative[1] or 1)]
    return [word] if model.has_dynamics else [0]


def _settle_source(name: str, model: TemporalClassifier, where: str) -> tuple[str, str]:
    """The model that examples are crafted on, and the tag of its weights: for a baseline the model's own if at hand."""
    from pcbench.models.resolve import find, resolve

    if name == BASELINE:
        if not model.name or find(model.name).spec.baseline is None:
            return model.name, model.weights
        source = resolve(model.name, model.weights).baseline
        if source is None:
            raise UserError(f"{where}: the baseline of {model.name} has no weights at hand; name another source")
    else:
        source = resolve(name)
    if source.num_classes != model.num_classes:
        raise UserError(f"{where}: {source.name} has {source.num_classes} classes, {model.name} {model.num_classes}")
    return source.name, source.weights


def _check_differentiable(model: TemporalClassifier, t: int, where: str) -> None:
    with frozen(model):
        image = torch.full((1, *model.input_size), 0.5, device=model.mean.device, requires_grad=True)
        if not model(image, timesteps=t).requires_grad:
            free = ", ".join(name for name, entry in ATTACKS if not entry.gradients)
            raise UserError(f"{where}: the model gives no gradients; attacks that need none: {free}")


KINDS.register("attack", AttackImages)
