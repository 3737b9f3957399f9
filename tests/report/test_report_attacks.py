"""What the report says of attacks: the worst case over them, never their mean; every doubt; the figures."""

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pandas as pd
from attacked import cell
from pcbench.results.load import Run

from pcbench.analysis.answers import answers
from pcbench.analysis.attacks import WORST, robust_accuracy
from pcbench.figures import style
from pcbench.figures.adversarial import CAPTIONS, drawings
from pcbench.report.attacks import apart, judged_at, stories

IMAGES = "abcdefgh"


def records() -> pd.DataFrame:
    rows = [
        *cell("clean", 0.0, [IMAGES, IMAGES], IMAGES, "clean"),
        *cell("pgd-linf@t0", 4 / 255, ["ab", "abcd"], IMAGES),
        *cell("pgd-linf@t1", 4 / 255, ["abef", "ac"], IMAGES),
        *cell("pgd-linf@t1", 8 / 255, ["a", ""], IMAGES),
        *cell("square@t1", 4 / 255, [IMAGES, "bcdefgh"], IMAGES),
        *cell("noise-uniform-linf", 4 / 255, [IMAGES, IMAGES], IMAGES, "noise"),
    ]
    return pd.DataFrame(rows)


def test_the_leaderboard_has_the_worst_case_over_the_attacks_of_a_radius() -> None:
    found = apart(answers(records()))
    names = found.perturbations()
    assert names[:3] == [f"{WORST} linf 4/255", f"{WORST} linf 8/255", "clean"]
    assert {"pgd-linf@t1 4/255", "pgd-linf@t1 8/255", "noise-uniform-linf 4/255"} <= set(names)
    # t = 0: ab, abef and all -> ab; t = 1: abcd, ac and all but a -> c
    assert found.of(f"{WORST} linf 4/255")[0].sum(axis=0).tolist() == [2, 1]
    table = robust_accuracy(records())
    worst = table[(table["label"] == WORST) & (table["epsilon"] == 4 / 255)].set_index("timestep")["correct"]
    assert worst.to_dict() == {0: 2, 1: 1}


def test_a_worst_case_is_judged_only_where_an_attack_was_aimed() -> None:
    found = answers(records())
    assert judged_at(found) == {f"{WORST} linf 4/255": {0, 1}, f"{WORST} linf 8/255": {1}}
    for name in ("pgd-linf@mean", "pgd-linf+from:other@t0"):  # about all timesteps; judged at all of them
        other = pd.concat([records(), pd.DataFrame(cell(name, 2 / 255, ["ab", "abcd"], IMAGES))])
        assert judged_at(answers(other))[f"{WORST} linf 2/255"] == {0, 1}


def test_answers_without_attacks_stay_as_they_are() -> None:
    plain = answers(records().query("group != 'attack'"))
    assert apart(plain) is plain


def test_a_story_has_the_worst_case_both_denominators_every_doubt_and_the_figures() -> None:
    (story,) = stories(cast("Run", SimpleNamespace(records=records(), directory=Path("some/run"))), "run")
    assert story.title == "run: m [w] on d, suite s"
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
    long = cell("pgd-linf+from:convrnn-feedforward-shallow-cifar@t0", 4 / 255, ["ab", "abcd"], IMAGES)
    with style.style():
        for name, (figure, _) in drawings(pd.concat([records(), pd.DataFrame(long)])).items():
            figure.draw_without_rendering()
            labels = [text for ax in figure.axes for text in (ax.title, ax.xaxis.label, ax.yaxis.label)]
            for text in [*labels, *figure.texts]:
                box = text.get_window_extent()
                if text.get_text():
                    assert box.x0 >= -2, (name, text)
                    assert box.x1 <= figure.bbox.x1 + 2, (name, text)


def test_a_run_without_attacks_has_no_story() -> None:
    quiet = SimpleNamespace(records=records().query("group != 'attack'"), directory=Path("run"))
    assert stories(cast("Run", quiet), "run") == []
