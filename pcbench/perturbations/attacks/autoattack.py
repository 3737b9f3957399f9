"""AutoAttack (Croce and Hein, ICML 2020): four attacks without parameters, each on what the ones before left."""

from dataclasses import replace

from pcbench.perturbations.attacks.attack import ATTACKS, Attack, Option, Options
from pcbench.perturbations.attacks.engine import Found, Plan
from pcbench.perturbations.attacks.losses import LOSSES
from pcbench.perturbations.attacks.victim import Victim

# Versions as the official code has them: (attack, options). Those of "standard" and "rand" are overridden by the
# options of the same name.
VERSIONS: dict[str, tuple[tuple[str, dict[str, int]], ...]] = {
    "standard": (
        ("apgd-ce", {"restarts": 1}),
        ("apgd-t", {"restarts": 1}),
        ("fab-t", {"restarts": 1}),
        ("square", {}),
    ),
    "plus": (
        ("apgd-ce", {"restarts": 5}),
        ("apgd-dlr", {"restarts": 5}),
        ("fab", {"restarts": 5}),
        ("square", {}),
        ("apgd-t", {"restarts": 1}),
        ("fab-t", {"restarts": 1}),
    ),
    "rand": (("apgd-ce", {"restarts": 1}), ("apgd-dlr", {"restarts": 1})),
}
DRAWS = 20  # that version "rand" averages over


def _autoattack(plan: Plan, options: Options) -> Found:
    """Each part on the images that no part before has fooled."""
    found = Found.nothing(plan.origin)
    version = str(options["version"])
    source = plan.victim
    aim = source.aim
    if version == "rand" and not aim.samples:
        aim = replace(aim, samples=DRAWS)
    for name, given in VERSIONS[version]:
        left = (~found.success).nonzero().squeeze(1)
        part = ATTACKS[name]
        if not len(left) or part.classes > source.model.num_classes:
            continue
        names = [option for option in ("steps", "targets", "queries") if part.options.get(option)]
        shared: dict[str, Option] = {option: options[option] for option in names}
        victim = Victim(
            source.model,
            aim,
            LOSSES[part.losses[0]],
            gradient=source.gradient,
            checkpointing=source.checkpointing,
            limit=source.limit,
        )
        its = replace(plan.of(left), victim=victim, purpose=f"{plan.purpose} {name}")
        found.improve(left, part.run(its, part.with_options({**shared, **given})))
        source.limit, source.checkpointing = victim.limit, victim.checkpointing
        source.passes += victim.passes
    return found


ATTACKS.register(
    "autoattack",
    Attack(
        "autoattack",
        "AutoAttack: APGD-CE, APGD-T, FAB-T and Square (versions plus and rand too), each on what is left",
        _autoattack,
        losses=(),
        options={"version": "standard", "steps": 100, "targets": 9, "queries": 5000},
        choices={"version": tuple(VERSIONS)},
    ),
)
