import contextlib
import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcbench.analysis.consistency import error_consistency
from pcbench.analysis.decisions import settled
from pcbench.analysis.humans import with_people
from pcbench.analysis.trials import (
    CATEGORIES,
    COLUMNS,
    category_probabilities,
    check_mapping,
    parse_trials,
    read_mapping,
    read_trials,
    stimulus_of,
)
from pcbench.errors import UserError

MAPPING = {name: [3 * k, 3 * k + 1] for k, name in enumerate(CATEGORIES)}
CONDITIONS = ("c05", "c100")
EACH = 64


def rows(observer: int, slow: np.ndarray, generator: np.random.Generator) -> list[list[str]]:
    """One observer's trials: more errors at low contrast, longer reactions to the stimuli that `slow` says."""
    order = generator.permutation(len(CONDITIONS) * EACH)
    table = []
    for trial, k in enumerate(order, start=1):
        condition, image = CONDITIONS[k // EACH], k % EACH
        category = CATEGORIES[image % 16]
        right = generator.random() < (0.5 if condition == "c05" else 0.95)
        answered = trial != 7
        response = category if right else CATEGORIES[int(generator.integers(16))]
        name = f"{trial:04d}_cop_s{observer:02d}_{condition}_{category}_10_n0000{image:04d}_{image}.png"
        seconds = f"{0.5 + 0.3 * slow[k] + 0.05 * generator.random():.6f}" if answered else "NaN"
        given_response = response if answered else "na"
        table.append([f"subject-{observer:02d}", "1", str(trial), seconds, given_response, category, condition, name])
    return table


def write(path: Path, table: list[list[str]], header: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["Session" if name == "session" else name for name in header], *table])
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    slow = np.random.default_rng(5).random(len(CONDITIONS) * EACH)
    return [
        write(tmp_path / f"contrast_subject-{s:02d}_session_1.csv", rows(s, slow, np.random.default_rng(s)))
        for s in (1, 2, 3)
    ]


# --- reading -----------------------------------------------------------------------------------------------------


def test_trials_are_read_as_published(files: list[Path]) -> None:
    trials = read_trials(files)
    assert len(trials.observer) == 3 * len(CONDITIONS) * EACH
    assert set(trials.condition.tolist()) == set(CONDITIONS)
    assert len(set(trials.stimulus.tolist())) == len(CONDITIONS) * EACH  # the same ones for all three
    unanswered = trials.response == -1
    assert unanswered.sum() == 3
    assert np.isnan(trials.seconds[unanswered]).all()
    assert not trials.correct[unanswered].any()


def line(**changed: str) -> str:
    fields = dict(zip(COLUMNS, ["s1", "1", "1", "0.5", "cat", "dog", "c05", "0001_cop_s01_c05_dog_1.png"], strict=True))
    return ",".join({**fields, **changed}.values()) + "\n"


HEADER = ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs the columns"),
        ("subj,session\n", "needs the columns subj"),
        (HEADER, "has no trials"),
        (HEADER.replace("rt", "subj"), "not so: subj, rt"),
        (HEADER + line() + "s1,1\n", "line 3: 2 fields under 8 columns"),
        (HEADER + line(category="caat"), "no category 'caat'; did you mean cat"),
        (HEADER + line(object_response="sofa"), "no category 'sofa'"),
        (HEADER + line(rt="fast"), "'fast' is no reaction time"),
        (HEADER + line(rt="-1"), "no reaction time"),
        (HEADER + line(rt="inf"), "no reaction time"),
        (HEADER + line(subj="a\x1b[2J"), "control characters"),
        (HEADER + line(condition="c" * 301), "field of 301 characters"),
        (HEADER + '"' + "x" * 200_000, "no CSV table"),
        (HEADER + line(subj="a\0b"), "control characters|no CSV table"),
    ],
)
def test_what_is_no_trial_file_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        parse_trials(text, "some.csv")
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("some.csv")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_files_are_read_or_refused(data: st.DataObject) -> None:
    text = HEADER + line() + line(imagename="0002_cop_s01_c05_cat_2.png")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(UserError):
        parse_trials(text, "some.csv")


def test_special_large_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a regular file"):
        read_trials([Path(os.devnull)])
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match="not a regular file"):
        read_trials([tmp_path / "pipe.csv"])
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(UserError, match="too large"):
        read_trials([tmp_path / "large.csv"])
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        read_trials([tmp_path / "binary.csv"])
    with pytest.raises(UserError, match=r"absent\.csv"):
        read_trials([tmp_path / "absent.csv"])
    with pytest.raises(UserError, match="no trial files"):
        read_trials([])


def test_a_file_given_twice_is_refused(files: list[Path]) -> None:
    with pytest.raises(UserError, match="more than once"):
        read_trials([files[0], files[0]])


# --- the mapping -------------------------------------------------------------------------------------------------


def test_probabilities_of_a_category_are_the_mean_over_its_classes(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps(MAPPING))
    mapping = read_mapping(tmp_path / "map.json")
    p = np.zeros((2, 1000))
    p[0, 3], p[0, 999], p[1, 46] = 0.6, 0.4, 1
    found = category_probabilities(p, mapping)
    assert found.shape == (2, 16)
    assert found[0, 1] == pytest.approx(0.3)
    assert found[1].argmax() == 15
    with pytest.raises(ValueError, match="1000 classes"):
        category_probabilities(p[:, :10], mapping)
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        category_probabilities(p * 9, mapping)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cat": []}, "cat needs a list"),
        ({"cat": [1000]}, "0 to 999"),
        ({"cat": [True]}, "0 to 999"),
        ({"cat": [0]}, "class 0 is in airplane and in cat"),
        ({"sofa": [999]}, "no category 'sofa'"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_mapping({**MAPPING, **changed})


@pytest.mark.parametrize("text", ["[", "[]", "[" * 100_000, '{"cat": 1}'])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(UserError):
        read_mapping(tmp_path / "map.json")


# --- comparing ---------------------------------------------------------------------------------------------------


def test_a_network_that_answers_as_an_observer_does_errs_on_the_same_images(files: list[Path]) -> None:
    trials = read_trials(files)
    first = trials.observer == "subject-01"
    stimuli, answers = trials.stimulus[first].tolist(), np.stack([trials.category[first], trials.response[first]])
    found, absent = with_people(trials, stimuli, answers)
    assert absent == []
    assert [each.condition for each in found] == ["c05", "c100"]
    for each in found:
        assert each.observers == ("subject-01", "subject-02", "subject-03")
        assert each.stimuli == EACH
        assert each.network[0] == 1
        at = trials.condition == each.condition
        assert each.people == pytest.approx(trials.correct[at].mean())
        np.testing.assert_allclose(each.difference.difference, each.network - each.people)
        assert each.difference.covers == "images and 3 observers of the second"
        assert each.among_people is not None

    def outcomes(observer: str) -> np.ndarray:
        at = np.flatnonzero((trials.observer == observer) & (trials.condition == "c05"))
        return trials.correct[at[np.argsort(trials.stimulus[at])]][None, None]

    each_observer = [error_consistency(outcomes("subject-01"), outcomes(name)).kappa for name in found[0].observers]
    assert each_observer[0] == 1
    assert found[0].consistency.kappa[1, 0] == pytest.approx(np.mean(each_observer))


def test_reaction_times_go_with_the_time_to_decide(files: list[Path]) -> None:
    trials = read_trials(files)
    first = trials.observer == "subject-01"
    stimuli, category = trials.stimulus[first].tolist(), trials.category[first]
    late = np.nan_to_num(trials.seconds[first], nan=0.6) > 0.66
    answers = np.stack([np.where(late, (category + 1) % 16, category), category])
    found, _ = with_people(trials, stimuli, answers, settled(answers))
    for each in found:
        assert 0.6 < each.reaction.value < 1
        assert each.reaction.low < each.reaction.value < each.reaction.high <= 1
    still, _ = with_people(trials, stimuli, answers[:1], settled(answers[:1]))
    assert np.isnan(still[0].reaction.value)


def test_what_was_not_shown_is_said(files: list[Path]) -> None:
    trials = read_trials(files)
    first = (trials.observer == "subject-01") & (trials.condition == "c05")
    stimuli, answers = trials.stimulus[first].tolist(), trials.category[first][None]
    found, absent = with_people(trials, stimuli, answers)
    assert [each.condition for each in found] == ["c05"]
    assert absent == ["c100"]
    with pytest.raises(UserError, match="condition c05: 4 of 64 stimuli were not shown to the network, such as c05_"):
        with_people(trials, stimuli[4:], answers[:, 4:])
    with pytest.raises(UserError, match="none of the stimuli"):
        with_people(trials, ["x.png"], np.zeros((1, 1)))
    with pytest.raises(UserError, match="same stimulus twice"):
        with_people(trials, [*stimuli, stimuli[0]], np.zeros((1, len(stimuli) + 1)))


def test_observers_who_saw_different_images_are_refused(files: list[Path]) -> None:
    lines = files[1].read_text().splitlines()
    files[1].write_text("\n".join(lines[:-1]) + "\n")
    trials = read_trials(files)
    with pytest.raises(UserError, match="not all shown the same images"):
        with_people(trials, trials.stimulus[trials.observer == "subject-01"].tolist(), np.zeros((1, 128)))


def test_one_observer_is_compared_over_images_alone(files: list[Path]) -> None:
    trials = read_trials(files[:1])
    found, _ = with_people(trials, trials.stimulus.tolist(), trials.category[None])
    assert found[0].difference.covers == "images"
    assert found[0].among_people is None


def test_a_stimulus_is_called_the_same_whoever_saw_it() -> None:
    assert stimulus_of("0123_nse_s04_0.35_cat_10_n1_2.png") == stimulus_of("0007_nse_s01_0.35_cat_10_n1_2.png")
    assert stimulus_of("cat.png") == "cat.png"
