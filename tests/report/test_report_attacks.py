"""What the report says of attacks: the worst case over them, never their mean; every doubt; the figures."""

import base64

import numpy as np
import pandas as pd
import pytest
from attacked import CLEAN, attack, cell, noise

from pcbench.analysis.answers import Answers
from pcbench.analysis.attacks import WORST, robust_accuracy
from pcbench.figures import style
from pcbench.figures.adversarial import CAPTIONS, drawings
from pcbench.keys import Condition, DataKey, ModelKey
from pcbench.report.attacks import apart, judged_at, stories
from pcbench.results.study import Study, System

IMAGES = "abcdefgh"
CELLS: list[tuple[Condition, list[str]]] = [
    (CLEAN, [IMAGES, IMAGES]),
    (attack(at=0, epsilon=4 / 255), ["ab", "abcd"]),
    (attack(at=1, epsilon=4 / 255), ["abef", "ac"]),
    (attack(at=1, epsilon=8 / 255), ["a", ""]),
    (attack("square", at=1, epsilon=4 / 255), [IMAGES, "bcdefgh"]),
    (noise(4 / 255), [IMAGES, IMAGES]),
]


def records() -> pd.DataFrame:
    return pd.DataFrame([row for condition, correct in CELLS for row in cell(condition, correct, IMAGES)])


def answers(cells: list[tuple[Condition, list[str]]]) -> Answers:
    keys = tuple(condition for condition, _ in cells)
    table = pd.DataFrame(
        {
            "perturbation": [key.perturbation for key in keys],
            "group": [key.group for key in keys],
            "severity": [key.severity for key in keys],
        }
    )
    values = np.array([[[image in right for right in correct] for image in IMAGES] for _, correct in cells])
    system = System(ModelKey("m", "w"), DataKey("d", "f", len(IMAGES)), 1, 0, "float32", "1")
    return Answers(system, "m", "s", table, keys, np.array(list(IMAGES), dtype=object), [0, 1], values)


def test_the_leaderboard_has_the_worst_case_over_the_attacks_of_a_radius() -> None:
    found = apart(answers(CELLS))
    names = found.perturbations()
    assert names[:3] == [f"{WORST} linf 4/255", f"{WORST} linf 8/255", "clean"]
    assert {"pgd on t = 1 4/255", "pgd on t = 1 8/255", "noise-uniform-linf 4/255"} <= set(names)
    # t = 0: ab, abef and all -> ab; t = 1: abcd, ac and all but a -> c
    assert found.of(f"{WORST} linf 4/255")[0].sum(axis=0).tolist() == [2, 1]
    table = robust_accuracy(records())
    worst = table[(table["label"] == WORST) & (table["epsilon"] == 4 / 255)].set_index("timestep")["correct"]
    assert worst.to_dict() == {0: 2, 1: 1}


def test_a_worst_case_is_judged_only_where_an_attack_was_aimed() -> None:
    assert judged_at(answers(CELLS)) == {f"{WORST} linf 4/255": {0, 1}, f"{WORST} linf 8/255": {1}}
    for other in (attack(at="mean", epsilon=2 / 255), attack(at=0, epsilon=2 / 255, source="other")):
        # about all timesteps; judged at all of them
        assert judged_at(answers([*CELLS, (other, ["ab", "abcd"])]))[f"{WORST} linf 2/255"] == {0, 1}


def test_answers_without_attacks_stay_as_they_are() -> None:
    plain = answers(CELLS[:1])
    assert apart(plain) is plain


def test_a_story_has_the_worst_case_both_denominators_every_doubt_and_the_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pcbench.report.attacks.attacked_systems", lambda study: iter([("s", "m", records())]))
    (story,) = stories(Study(()))
    assert story.title == "m [w] on d, suite s"
    last = [row for row in story.robust if row["radius"] == "linf 4/255" and row["timestep"] == 1]
    assert [(row["attacks"], str(row["all"]).split(",")[0]) for row in last] == [(3, "12.5 % (1 of 8)")]
    assert story.verdict == "suspicious"  # Square breaks an image that PGD did not
    assert story.doubts == "suspicious: Square after white-box"
    assert {check.name for check in story.checks if check.advice} == {"Square after white-box"}
    assert {picture.caption for picture in story.pictures} <= set(CAPTIONS.values())
    assert len(story.pictures) >= 3
    for picture in story.pictures:
        assert base64.b64decode(picture.source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_no_label_of_a_figure_is_cut_off_however_long_the_names() -> None:
    long = cell(attack(at=0, epsilon=4 / 255, source="convrnn-feedforward-shallow-cifar"), ["ab", "abcd"], IMAGES)
    with style.style():
        for name, (figure, _) in drawings(pd.concat([records(), pd.DataFrame(long)])).items():
            figure.draw_without_rendering()
            labels = [text for ax in figure.axes for text in (ax.title, ax.xaxis.label, ax.yaxis.label)]
            for text in [*labels, *figure.texts]:
                box = text.get_window_extent()
                if text.get_text():
                    assert box.x0 >= -2, (name, text)
                    assert box.x1 <= figure.bbox.x1 + 2, (name, text)


def test_a_study_without_attacks_has_no_story() -> None:
    assert stories(Study(())) == []
