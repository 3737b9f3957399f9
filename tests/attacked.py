"""Records of attacked conditions, written down image by image."""

from pcbench.keys import Condition
from pcbench.results.cell import condition_values

IMAGES = "abcd"


def attack(
    name: str = "pgd", epsilon: float = 0.1, at: int | str = 1, timesteps: int = 1, **params: object
) -> Condition:
    """A settled condition of the kind attack; at: a timestep, or "mean", "worst", "sum"."""
    readout, step = ("timestep", at) if isinstance(at, int) else (at, timesteps)
    knowledge = {"fgsm": "single-step", "square": "gradient-free", "hop": "hard-label"}.get(name, "white-box")
    settled: dict[str, object] = {"attack": name, "norm": "linf", "loss": "margin", "readout": readout, "at": step}
    settled |= {"objective": "readout", "gradient": "exact", "source": "", "role": "attack", "judged": "everywhere"}
    settled |= {"knowledge": "transfer" if params.get("source") else knowledge, "options": {}}
    return Condition("attack", name, "attack", epsilon, {**settled, **params})


CLEAN = Condition("clean", "clean", "clean", 0.0)


def noise(epsilon: float, norm: str = "linf") -> Condition:
    return Condition(
        "noise-control", f"noise-uniform-{norm}", "noise-control", epsilon, {"noise": "uniform", "norm": norm}
    )


def cell(condition: Condition, correct: list[str], attacked: str = IMAGES, **more: object) -> list[dict[str, object]]:
    """Rows of one condition: correct[t] names the images that are right at t, and an attack fools the others.

    more: further columns, a value for each image or one for all.
    """
    rows = []
    at = condition.params.get("at", 0)
    step = int(at) if isinstance(at, int) else 0
    for t, right in enumerate(correct):
        for image in max(attacked, IMAGES, key=len):
            row: dict[str, object] = {"model": "m", "weights": "w", "data": "d", "suite": "s"}
            row |= {**condition_values(condition), "cell": condition.digest[:16], "has_dynamics": True}
            row |= {"image": image, "timestep": t, "correct": image in right}
            if condition.group == "attack":
                row |= {"attacked": image in attacked, "success": image in attacked and image not in correct[step]}
            rows.append(row | more)
    return rows
