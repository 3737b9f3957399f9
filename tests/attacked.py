"""Records of attacked conditions, written down image by image."""

from pcbench.analysis.attacks import read_name

IMAGES = "abcd"


def cell(
    perturbation: str, severity: float, correct: list[str], attacked: str = IMAGES, group: str = "attack"
) -> list[dict[str, object]]:
    """Rows of one condition: correct[t] names the images that are right at t, and an attack fools the others."""
    rows = []
    step = read_name(perturbation).timestep or 0
    for t, right in enumerate(correct):
        for image in max(attacked, IMAGES, key=len):
            row: dict[str, object] = {"model": "m", "weights": "w", "data": "d", "suite": "s"}
            row |= {"perturbation": perturbation, "group": group, "severity": severity, "image": image}
            row |= {"timestep": t, "correct": image in right}
            if group == "attack":
                row |= {"attacked": image in attacked, "success": image in attacked and image not in correct[step]}
            rows.append(row)
    return rows
