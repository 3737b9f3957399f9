"""What the report says of attacks: the worst case over them, never their mean; every doubt; the figures."""

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from attacked import CLEAN, attack, cell, noise
from synthetic import Model, gaussian_noise, make_run

from pcbench.analysis.answers import Answers
from pcbench.analysis.attacks import WORST, robust_accuracy
from pcbench.figures import style
from pcbench.figures.adversarial import CAPTIONS, drawings
from pcbench.keys import Condition, DataKey, ModelKey
from pcbench.report.attacks import apart, judged_at, stories
from pcbench.results.study import System, load_results

IMAGES = "abcdefgh"
SMALL, LARGE = 4 / 255, 8 / 255
# condition -> the images that are right at t = 0 and at t = 1
SAID: list[tuple[Condition, list[str]]] = [
    (CLEAN, [IMAGES, IMAGES]),
    (attack("pgd", SMALL, 0), ["ab", "abcd"]),
    (attack("pgd", SMALL, 1), ["abef", "ac"]),
    (attack("pgd", LARGE, 1), ["a", ""]),
    (attack("square", SMALL, 1), [IMAGES, "bcdefgh"]),
    (noise(SMALL), [IMAGES, IMAGES]),
]


def records(said: Sequence[tuple[Condition, list[str]]] = SAID) -> pd.DataFrame:
    return pd.DataFrame([row for condition, right in said for row in cell(condition, right, IMAGES)])


def answers(said: Sequence[tuple[Condition, list[str]]] = SAID) -> Answers:
    keys = tuple(condition for condition, _ in said)
    values = np.array([[[image in right for right in correct] for image in IMAGES] for _, correct in said])
    table = pd.DataFrame(
        {
            "perturbation": [key.perturbation for key in keys],
            "group": [key.group for key in keys],
            "severity": [key.severity for key in keys],
        }
    )
    system = System(ModelKey("m", "w"), DataKey("d", "f", len(IMAGES)), 1, 0, "float32", "2")
    return Answers(system, "m", "s", table, keys, np.array(list(IMAGES), dtype=object), [0, 1], values)


def test_the_leaderboard_has_the_worst_case_over_the_attacks_of_a_radius() -> None:
    found = apart(answers())
    assert found.perturbations()[:3] == [f"{WORST} linf 4/255", f"{WORST} linf 8/255", "clean"]
    # t = 0: ab, abef and all -> ab; t = 1: abcd, ac and all but a -> c
    assert found.of(f"{WORST} linf 4/255")[0].sum(axis=0).tolist() == [2, 1]
    assert len(set(found.perturbations())) == len(found.perturbations()) == len(SAID) + 2
    assert len(found.keys) == len(found.values)


def test_a_worst_case_is_judged_only_where_an_attack_was_aimed() -> None:
    assert judged_at(answers()) == {f"{WORST} linf 4/255": {0, 1}, f"{WORST} linf 8/255": {1}}
    table = robust_accuracy(records())
    worst = table[(table["label"] == WORST) & (table["epsilon"] == LARGE)]
    assert set(worst["timestep"]) <= {1}
    for further in (attack("pgd", 2 / 255, "mean"), attack("pgd", 2 / 255, 0, source="other")):
        assert judged_at(answers([*SAID, (further, ["ab", "abcd"])]))[f"{WORST} linf 2/255"] == {0, 1}


def test_answers_without_attacks_stay_as_they_are() -> None:
    plain = answers([SAID[0]])
    assert apart(plain) is plain


def test_a_story_has_the_worst_case_both_denominators_every_doubt_and_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_results(make_run(tmp_path / "a", [Model("m", 1)], {"noise": gaussian_noise()}, n=4))
    monkeypatch.setattr("pcbench.report.attacks.attacked_systems", lambda study: [("s", "m", records())])
    (story,) = stories(study)
    assert story.title == "m [w] on d, suite s"
    last = [row for row in story.robust if row["radius"] == "linf 4/255" and row["timestep"] == 1]
    assert [str(row["all"]).split(",")[0] for row in last] == ["12.5 % (1 of 8)"]
    assert story.verdict in ("suspicious", "failed")  # Square breaks an image that PGD did not
    assert "quare" in story.doubts
    assert {picture.caption for picture in story.pictures} <= set(CAPTIONS.values())
    assert len(story.pictures) >= 3
    for picture in story.pictures:
        assert base64.b64decode(picture.source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_no_label_of_a_figure_is_cut_off_however_long_the_names() -> None:
    long = (attack("pgd", SMALL, 0, source="convrnn-feedforward-shallow-cifar"), ["ab", "abcd"])
    with style.style():
        for name, (figure, _) in drawings(records([*SAID, long])).items():
            figure.draw_without_rendering()
            labels = [text for ax in figure.axes for text in (ax.title, ax.xaxis.label, ax.yaxis.label)]
            for text in [*labels, *figure.texts]:
                box = text.get_window_extent()
                if text.get_text():
                    assert box.x0 >= -2, (name, text)
                    assert box.x1 <= figure.bbox.x1 + 2, (name, text)


def test_a_study_without_attacks_has_no_story(tmp_path: Path) -> None:
    study = load_results(make_run(tmp_path / "a", [Model("m", 1)], {"noise": gaussian_noise()}, n=4))
    assert stories(study) == []
