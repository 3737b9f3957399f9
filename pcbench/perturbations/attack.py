"""The kind `attack`: adversarial examples for one readout of the unrolled network."""

import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from pcbench.errors import UserError, did_you_mean
from pcbench.keys import Condition
from pcbench.models.base import TemporalClassifier, last_steps
from pcbench.perturbations.attacks.attack import ATTACKS, Option
from pcbench.perturbations.attacks.ball import check_epsilon, distance
from pcbench.perturbations.attacks.engine import Ball, Found, Plan
from pcbench.perturbations.attacks.isolation import frozen, seeded
from pcbench.perturbations.attacks.libraries import find_attack
from pcbench.perturbations.attacks.losses import CLASSES, LOSSES
from pcbench.perturbations.attacks.memory import wants_checkpointing
from pcbench.perturbations.attacks.victim import READOUTS, Aim, Objective, Readout, Rows, Victim
from pcbench.perturbations.base import KINDS, Context, Perturbation, Perturbed
from pcbench.randomness import key
from pcbench.tables import Table

BASELINE = "baseline"
Role = Literal["attack", "strong", "converged", "large", "weaker", "comparison"]
_RELATIVE = re.compile(r"T(?:/([1-9]\d*))?")


class AttackTable(Table):
    """`kind = "attack"`: one condition for each epsilon and readout.

    Attributes:
        attack: a registered attack, or one of a library: "torchattacks:NAME", "foolbox:NAME", "adv-lib:NAME".
        epsilons: radii, numbers or fractions such as "8/255".
        at: whose answer is attacked: timesteps, "T", "T/2", "all" (each timestep), "mean" (of the probabilities over
            t = 0..T), "worst" (the weakest timestep of each image) or "sum" (all timesteps jointly).
        judged: "aimed": at the attacked readout alone, so that an image is done when it is fooled; "everywhere": at
            other timesteps too, so that every image goes all the way.
        role: what the condition is for: "attack" is what the robust accuracies are made of; the others are evidence:
            "strong" (an independent attack on the same ball), "converged" (the same with more steps or starts), "large"
            (a radius that leaves nothing), "weaker" (one that an attack must beat), "comparison" (another gradient).
            A condition that is evidence is left out for a model that it cannot be run on.
        norm: where the attack has several; else its own.
        loss: that is climbed, where the attack has several; else its own.
        objective: what is differentiated, see `Aim`.
        gradient: "exact", "truncated", "smoothed" or "last-K" (through the last K timesteps alone); by default the
            run's. A comparison with the run's own gradient: in a run with --attack-gradient truncated, "truncated"
            becomes "exact".
        options: of the attack.
        target_offset: aim at class (label + offset) mod classes.
        target: aim at this class.
        samples: answers to average, for networks that draw their state at random; 0 for others.
        source: craft on this registered model instead ("baseline": the model's own feedforward baseline); a run
            (--attack-source) can name another.
        share: of the images to attack, chosen by their ids: for costly attacks.
        correct_through: attack only images that are classified correctly at every timestep up to this one.
    """

    attack: str
    epsilons: Annotated[list[float | str], Field(min_length=1)]
    at: list[int | str] = Field(default=["T"], min_length=1)
    judged: Literal["aimed", "everywhere"] = "aimed"
    role: Role = "attack"
    norm: str | None = None
    loss: str | None = None
    objective: Objective = "readout"
    gradient: str | None = None
    options: dict[str, int | float | bool | str] = Field(default_factory=dict)
    target_offset: int | None = None
    target: Annotated[int, Field(ge=0)] | None = None
    samples: Annotated[int, Field(ge=0)] = 0
    source: str = ""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    correct_through: Annotated[int, Field(ge=0)] | None = None


class AttackImages(Perturbation):
    """Adversarial examples of one attack at one epsilon, for one readout.

    The condition's params, besides the table's: "readout" and "at" (settled: "timestep" and t, or "mean", "worst",
    "sum" and T), "knowledge" (of the attacker: "white-box", "single-step", "gradient-free", "hard-label", "transfer"),
    "source_weights" ("" without a source).

    Only images that are classified correctly by the attacked readout are attacked, others pass unchanged. Columns:
    - "attacked" (bool), "distance" (of the perturbation, in the attack's norm).
    - "success" (bool): the attacked readout is wrong, or says the target. Of the network that it was crafted on.
    - "gap": the lead, in logits, over the label (of the target) of the strongest image found; NaN where nothing was
      attacked. "gap_first", "gap_half": the same at the first question and by half of the steps.
    - "passes": that were spent on the image.

    An image's result depends on (seed, its id, the condition) and on no other image.
    """

    shared = False
    wanted_at_once: ClassVar[int | None] = 512

    def __init__(self, condition: Condition) -> None:
        super().__init__(condition)
        params = condition.params
        self.attack = find_attack(str(params["attack"]))
        self.norm = str(params["norm"])
        self.options: dict[str, Option] = dict(params["options"])
        self._source: TemporalClassifier | None = None
        self._checkpointing: bool | None = None
        self._limit: int | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_source": None, "attack": self.attack.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.attack = find_attack(state["attack"])

    @classmethod
    def conditions(cls, suite: str, table: Mapping[str, object]) -> list[Condition]:
        """One condition for each epsilon and readout; "T", "T/2" and "all" are settled by `for_model`."""
        read = AttackTable.read(suite, table)
        attack = find_attack(read.attack)
        where = f"suite {suite}, attack {attack.name}"
        norm = _one_of("norm", read.norm, attack.norms, where)
        loss = _one_of("loss", read.loss, attack.losses, where) if attack.losses else ""
        if read.loss is not None and not attack.losses:
            raise UserError(f"{where}: it climbs a loss of its own; leave out loss = {read.loss!r}")
        if read.target is not None and read.target_offset is not None:
            raise UserError(f"{where}: give target or target_offset, not both")
        if (read.target is not None or read.target_offset is not None) and not attack.targeted:
            targeted = ", ".join(name for name, entry in ATTACKS if entry.targeted)
            raise UserError(f"{where}: {attack.name} cannot aim at a class; these can: {targeted}")
        if read.objective != "readout" and not (attack.ours and attack.gradients):
            raise UserError(f"{where}: objective {read.objective!r} is for attacks of our own that take gradients")
        if read.gradient is not None and last_steps(read.gradient) is None:
            _one_of("gradient", read.gradient, ("exact", "truncated", "smoothed", "last-K (K >= 1)"), where)
        params = read.model_dump(exclude={"kind", "epsilons", "at"})
        params |= {"norm": norm, "loss": loss, "options": attack.with_options(read.options), "source_weights": ""}
        params |= {"knowledge": "transfer" if read.source else attack.knowledge}
        if read.source:
            params["judged"] = "everywhere"  # an image that barely fools the source fools nothing else
        found = []
        for text in read.epsilons:
            epsilon = parse_epsilon(text, where)
            check_epsilon(epsilon, norm, where)
            for at in read.at:
                check_readout(at, where)
                found.append(Condition("attack", attack.name, "attack", epsilon, {**params, "at": at}))
        return found

    @classmethod
    def for_model(cls, condition: Condition, model: TemporalClassifier, timesteps: int) -> list[Condition]:
        """The condition with its timesteps settled, and with all that can be refused before the run refused."""
        params = dict(condition.params)
        where = f"attack {condition.perturbation} on {model.name or 'the model'}"
        _check_problem(condition, model, where)
        try:
            params |= _settle_dynamics(params, model, where)
            params |= _settle_source(params, model, where)
        except _NotForThisModelError:
            return []
        params.pop("attack_gradient", None)
        params.pop("attack_source", None)
        if find_attack(str(params["attack"])).gradients and not params["source"]:
            _check_differentiable(model, where)
        through = params.get("correct_through")
        if model.has_dynamics and isinstance(through, int) and through > timesteps:
            raise UserError(f"{where}: its images are correct at t = 0..{through}, and the run ends at t = {timesteps}")
        return [
            replace(condition, params={**params, "readout": readout, "at": at})
            for readout, at in settle_readout(params["at"], timesteps, model, where)
        ]

    def on_float(self, images: Tensor, context: Context) -> Perturbed:
        """Attack the images that are classified correctly. Runs whatever gradient mode the caller is in."""
        model = context.model
        params = self.condition.params
        source = self._crafted_on(model)
        with frozen(model), frozen(source):
            origin = images.detach().clone(memory_format=torch.contiguous_format).clamp(0, 1)
            labels = context.labels.detach().clone()
            goals = self._goals(labels, model.num_classes)
            chosen = torch.tensor(self._chosen(origin, labels, goals, context), dtype=torch.long, device=labels.device)
            victim = self._victim(source, origin)
            plan = Plan(
                victim=victim,
                origin=origin[chosen],
                labels=labels[chosen],
                goals=goals[chosen],
                ids=[context.ids[row] for row in chosen.tolist()],
                seed=context.seed,
                ball=Ball(self.norm, self.condition.severity),
                stop=params["judged"] == "aimed",
                width=_together(origin),
                purpose=f"{self.attack.name} {params['readout']} {params['at']} {self.condition.severity!r}",
            )
            found = self.attack.run(plan, self.options) if len(chosen) else Found.nothing(plan.origin)
            self._checkpointing, self._limit = victim.checkpointing, victim.limit
        result = images.detach().clone()
        result[chosen] = found.images.to(result.dtype)
        return Perturbed(result, self._columns(result, images.detach(), chosen, found))

    def _columns(self, result: Tensor, images: Tensor, chosen: Tensor, found: Found) -> dict[str, Tensor]:
        count = len(images)
        attacked = torch.zeros(count, dtype=torch.bool, device=images.device)
        attacked[chosen] = True
        columns = {"attacked": attacked, "distance": distance(result, images, self.norm)}
        columns["success"] = torch.zeros_like(attacked)
        columns["success"][chosen] = found.success
        columns["passes"] = torch.zeros(count, dtype=torch.long, device=images.device)
        columns["passes"][chosen] = found.asked
        for name, values in (("gap", found.gap), ("gap_first", found.first), ("gap_half", found.half)):
            columns[name] = torch.full((count,), torch.nan, device=images.device)
            columns[name][chosen] = torch.where(values.isfinite(), values, torch.nan).float()
        return columns

    def _victim(self, source: TemporalClassifier, origin: Tensor) -> Victim:
        params = self.condition.params
        aim = _aim(params)
        size = (int(origin.shape[1]), int(origin.shape[2]), int(origin.shape[3]))
        if self._checkpointing is None:
            self._checkpointing = self.attack.gradients and wants_checkpointing(
                source, size, aim.at, _together(origin) * max(1, aim.samples)
            )
        return Victim(
            source,
            aim,
            LOSSES[str(params["loss"]) or "margin"],
            gradient=_usable(str(params["gradient"]), source),
            checkpointing=self._checkpointing,
            limit=self._limit or _together(origin),
        )

    def _crafted_on(self, model: TemporalClassifier) -> TemporalClassifier:
        name = str(self.condition.params["source"])
        if not name:
            return model
        if self._source is None:
            from pcbench.models.resolve import load_model

            weights = str(self.condition.params["source_weights"])
            self._source = load_model(name, weights, device=str(model.mean.device))
        return self._source

    def _goals(self, labels: Tensor, classes: int) -> Tensor:
        offset, target = self.condition.params["target_offset"], self.condition.params["target"]
        if isinstance(offset, int):
            return (labels + offset) % classes
        return torch.full_like(labels, target if isinstance(target, int) else -1)

    def _chosen(self, origin: Tensor, labels: Tensor, goals: Tensor, context: Context) -> list[int]:
        """The rows to attack: those whose answer is right, and that belong to the share."""
        params = self.condition.params
        through = params["correct_through"]
        right = self._right(origin, labels, context, through if isinstance(through, int) else None)
        right &= goals != labels
        share = float(params["share"])
        return [
            row
            for row, name in enumerate(context.ids)
            if bool(right[row]) and key(context.seed, name, "share") / 2**63 < share
        ]

    def _right(self, origin: Tensor, labels: Tensor, context: Context, through: int | None) -> Tensor:
        """(B,) bool: right without attack: at the aimed readout; at t = 0..through; or, of a transfer, at any t."""
        params = self.condition.params
        if through is None and not params["source"]:
            victim = Victim(context.model, _aim(params), LOSSES["margin"], limit=self._limit or _together(origin))
            none = torch.full_like(labels, -1)
            keys = [key(context.seed, name, "judge") for name in context.ids]
            return victim.ask(origin, Rows(origin, labels, none, none, keys), False).gap < 0
        steps = context.timesteps if through is None else through
        parts, at_once = [], _together(origin)
        with torch.no_grad(), seeded(key(context.seed, "judge"), origin.device):
            for piece, its in zip(torch.split(origin, at_once), torch.split(labels, at_once), strict=True):
                right = context.model(piece, timesteps=steps).argmax(-1) == its
                parts.append(right.any(0) if through is None else right.all(0))
        return torch.cat(parts)


class _NotForThisModelError(Exception):
    """A piece of evidence makes no sense for a model."""


def _aim(params: Mapping[str, Any]) -> Aim:
    return Aim(params["readout"], int(params["at"]), params["objective"], int(params["samples"]))


def _together(images: Tensor) -> int:
    """How many images are attacked at once. Fixed, because a kernel's rounding depends on the batch size."""
    places = images.shape[2] * images.shape[3]
    if images.device.type != "cpu":
        return max(1, min(512, 64 * 224 * 224 // places))
    return max(1, min(64, 8 * 224 * 224 // places))


def _one_of(what: str, value: str | None, known: tuple[str, ...], where: str) -> str:
    """The value, the first of the known when there is none. Raises UserError."""
    if value is None:
        return known[0]
    if value not in known:
        raise UserError(f"{where}: no {what} {value!r}; it has {', '.join(known)}; {did_you_mean(value, known)}")
    return value


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
    elif at not in ("all", *READOUTS[1:]) and not _RELATIVE.fullmatch(at):
        raise UserError(f"{where}: at {at!r}; known: timesteps (0, 1, ...), T, T/2, T/3, ..., all, mean, worst, sum")


def settle_readout(at: object, timesteps: int, model: TemporalClassifier, where: str) -> list[tuple[Readout, int]]:
    """The readouts, with their (last) timesteps, that `at` stands for in a run of T; t = 0 for a net without dynamics.

    Raises:
        UserError: a timestep beyond the last.
    """
    if not model.has_dynamics:
        return [("timestep", 0)]
    if isinstance(at, int):
        if at > timesteps:
            raise UserError(f"{where}: the run ends at t = {timesteps}; attack an earlier timestep or unroll further")
        return [("timestep", at)]
    word = str(at)
    if word == "all":
        return [("timestep", t) for t in range(timesteps + 1)]
    relative = _RELATIVE.fullmatch(word)
    if relative:
        return [("timestep", timesteps // int(relative[1] or 1))]
    return [(readout, timesteps) for readout in READOUTS if readout == word]


def _check_problem(condition: Condition, model: TemporalClassifier, where: str) -> None:
    """Radius, classes and targets against the model. Raises UserError."""
    params = condition.params
    attack = find_attack(str(params["attack"]))
    check_epsilon(condition.severity, str(params["norm"]), where, model.input_size)
    needed = max(attack.classes, CLASSES.get(str(params["loss"]), 2))
    if model.num_classes < needed:
        raise UserError(f"{where}: {attack.name} needs {needed} classes; there are {model.num_classes}")
    refusal = attack.refuses(condition.severity, model.input_size, params["options"])
    if refusal is not None and condition.severity > 0:
        raise UserError(f"{where}: {refusal}")
    target, offset = params.get("target"), params.get("target_offset")
    if isinstance(target, int) and target >= model.num_classes:
        raise UserError(f"{where}: target class {target} is out of range; classes are 0 to {model.num_classes - 1}")
    if isinstance(offset, int) and offset % model.num_classes == 0:
        raise UserError(
            f"{where}: target_offset {offset} is the label itself when there are {model.num_classes} classes"
        )


def _settle_dynamics(params: Mapping[str, Any], model: TemporalClassifier, where: str) -> dict[str, object]:
    """The gradient and the objective as they are for a model. Raises UserError, and `_NotForThisModelError`."""
    evidence = params["role"] != "attack"
    asked, run = params.get("gradient"), params.get("attack_gradient")
    gradient = str(asked or run or "exact")
    if asked == "truncated" == run and gradient in model.gradients:
        gradient = "exact"
    if not _has(gradient, model):
        if evidence and asked is not None:
            raise _NotForThisModelError
        if asked is not None or model.has_dynamics:
            known = (*model.gradients, "last-K") if model.cuts_gradients else model.gradients
            raise UserError(f"{where}: no gradient {gradient!r}; it has {', '.join(known)}")
        gradient = "exact"  # the run's choice is about time, and here is none
    objective = params["objective"]
    missing = not model.has_dynamics if objective != "states" else not model.has_representations
    if objective != "readout" and missing:
        if evidence:
            raise _NotForThisModelError
        what = "representations" if objective == "states" else "dynamics"
        raise UserError(f"{where}: objective {objective!r} needs {what}, which it does not have")
    return {"gradient": gradient}


def _has(gradient: str, model: TemporalClassifier) -> bool:
    return gradient in model.gradients or (model.cuts_gradients and last_steps(gradient) is not None)


def _usable(gradient: str, source: TemporalClassifier) -> str:
    """The gradient of the model that images are crafted on; another model's is exact where it has no such."""
    return gradient if _has(gradient, source) else "exact"


def _settle_source(params: Mapping[str, Any], model: TemporalClassifier, where: str) -> dict[str, object]:
    """The model that examples are crafted on, and the tag of its weights: for a baseline the model's own if at hand.

    Raises:
        UserError: no such model, or one of other classes.
        _NotForThisModelError: it is the model itself: that is no transfer; or, for evidence, it is not at hand.
    """
    if not params["source"]:
        return {}
    from pcbench.models.resolve import find, resolve

    name = str(params.get("attack_source") or params["source"])
    if name == BASELINE:
        if not model.name or find(model.name).spec.baseline is None:
            raise _NotForThisModelError
        source = resolve(model.name, model.weights).baseline
        if source is None and params.get("role", "attack") != "attack":
            raise _NotForThisModelError
        if source is None:
            raise UserError(f"{where}: the baseline of {model.name} has no weights at hand; name another source")
    else:
        source = resolve(name)
    if source.num_classes != model.num_classes:
        raise UserError(f"{where}: {source.name} has {source.num_classes} classes, {model.name} {model.num_classes}")
    if (source.name, source.weights) == (model.name, model.weights):
        raise _NotForThisModelError
    return {"source": source.name, "source_weights": source.weights}


def _check_differentiable(model: TemporalClassifier, where: str) -> None:
    with frozen(model):
        image = torch.full((1, *model.input_size), 0.5, device=model.mean.device, requires_grad=True)
        if not model(image, timesteps=0).requires_grad:
            free = ", ".join(name for name, entry in ATTACKS if not entry.gradients)
            raise UserError(f"{where}: the model gives no gradients; attacks that need none: {free}")


KINDS.register("attack", AttackImages)
