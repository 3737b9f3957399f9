import tomllib
from collections import OrderedDict
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from pcbench import network
from pcbench.cli.app import main
from pcbench.errors import UserError
from pcbench.models.checkpoints import feedback_tensors, read
from pcbench.models.feedback_weights import load_feedback_weights
from pcbench.models.listing import list_models
from pcbench.models.resolve import load_model
from pcbench.training.feedback_advice import feedback_advice

MODEL = "predify:tests.cli.test_cli_train_predictive:small"


@network(size=224, classes="imagenet", normalises=True)
def small() -> nn.Module:
    """A network over 224 x 224 images that costs next to nothing."""
    layers = [nn.Conv2d(3, 4, 7, stride=8, padding=3), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1)]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1000))
    return nn.Sequential(OrderedDict(features=nn.Sequential(*layers), head=head))


def pcbench(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(words)
    out = capsys.readouterr()
    return int(caught.value.code or 0), out.out, out.err


def test_feedback_weights_are_solved_for_installed_and_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    words = ["train", "feedback", "--model", MODEL, "--data", "samples", "--workers", "0", "--install"]
    code, out, err = pcbench(capsys, *words)
    assert code == 0, err
    assert "PCoder 1: explains" in out
    (output,) = (tmp_path / "feedback").iterdir()
    assert {path.name for path in output.iterdir()} - {".lock"} == {
        "training.json", "state.pt", "log.csv", "feedback.safetensors",
    }  # fmt: skip
    log = pd.read_csv(output / "log.csv")
    assert log["pcoder"].tolist() == list(range(1, len(log) + 1))
    model = load_model(MODEL)
    installed = next((tmp_path / "mine").iterdir())
    assert read(installed).metadata.architecture == MODEL
    assert model.weights in installed.name
    code, again, err = pcbench(capsys, *words)  # finished: nothing is solved again
    assert (code, again) == (0, out), err
    code, _, err = pcbench(capsys, *words, "--held-out", "0.2")
    assert code == 2
    assert "holds another training: its held_out is 0.1, not 0.2" in err


def test_feedback_weights_are_trained_from_those_of_least_squares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "feedback", "--model", MODEL, "--weights", "random", "--data", "samples", "--workers", "0"]
    code, _, err = pcbench(capsys, *words, "--output", str(tmp_path / "solved"))
    assert code == 0, err
    words += ["--method", "gradient", "--epochs", "2", "--batch-size", "64", "--output", str(tmp_path / "out")]
    words += ["--start", str(tmp_path / "solved" / "feedback.safetensors"), "--learning-rate", "1e-5"]
    code, out, err = pcbench(capsys, *words)
    assert code == 0, err
    assert "best: epoch" in out
    log = pd.read_csv(tmp_path / "out" / "log.csv")
    assert log["epoch"].tolist() == [1, 2]
    solved = pd.read_csv(tmp_path / "solved" / "log.csv")
    assert log["explained_variance_1"].iloc[0] == pytest.approx(solved["explained_variance"].iloc[0], abs=0.02)
    code, _, err = pcbench(capsys, *words, "--seed", "1")
    assert code == 2
    assert "holds another training: its seed is 0, not 1" in err


def test_a_configuration_of_ones_own_is_solved_for_and_its_file_loads_into_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path / "mine"))
    config = tmp_path / "own.toml"
    config.write_text('[[pcoders]]\nmodule = "features[0]"\n')
    name = f"{MODEL}?config={config}"
    words = ["train", "feedback", "--data", "samples", "--workers", "0", "--model", name]
    code, out, err = pcbench(capsys, *words, "--install", "--output", str(tmp_path / "out"))
    assert code == 0, err
    assert f"pcbench run --model '{name}' --weights own uses them now" in out
    path = tmp_path / "out" / "feedback.safetensors"
    own, installed = load_model(name, "random"), load_model(name)
    assert installed.weights == "own"
    before, after = feedback_tensors(own.network), read(path).tensors
    assert before.keys() == after.keys()
    load_feedback_weights(own, path)
    for model in (own, installed, load_model(name, "random", feedback_weights=str(path))):
        assert all(torch.equal(tensor, after[key].float()) for key, tensor in feedback_tensors(model.network).items())
    with pytest.raises(UserError, match="belong to another configuration"):
        load_model(MODEL, "random", feedback_weights=str(path))
    with pytest.raises(UserError, match=r"feedback.safetensors belongs to another configuration of predify:.*: 1 PCod"):
        load_feedback_weights(load_model(MODEL, "random"), path)
    code, _, err = pcbench(capsys, *words, "--weights", "random", "--install", "--output", str(tmp_path / "none"))
    assert (code, (tmp_path / "none").exists()) == (2, False)
    assert "those of a random backbone are drawn with it" in err


def test_a_run_that_lacks_feedback_weights_names_the_command_and_its_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path))
    words = ["run", "--model", MODEL, "--data", "samples", "--suite", "clean", "--output", str(tmp_path / "out")]
    code, _, err = pcbench(capsys, *words)
    assert code == 2
    assert (
        f"error: {MODEL} lacks only its feedback weights: `pcbench train feedback --model '{MODEL}' --weights own "
        "--data IMAGES --install` makes them, in about a minute on this machine from 1,000 images, with 0.1 GB" in err
    )
    code, _, err = pcbench(capsys, *words[:-3], "no-such-suite")
    assert code == 2
    assert "lacks only" not in err
    assert feedback_advice("vgg16-cifar") is None  # not predictive
    assert feedback_advice("pvgg16-cifar", "cifar10") is None  # lacks its backbone too
    assert feedback_advice("pvgg16-cifar", "cifar10-half") is None  # lacks nothing


def test_the_timesteps_that_are_listed_are_those_that_run() -> None:
    row = next(row for row in list_models() if row["name"] == "pvgg16-cifar")
    assert row["timesteps"] == load_model("pvgg16-cifar").timesteps == 5


def test_hyperparameters_are_tuned_and_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "hyperparameters", "--model", MODEL, "--weights", "random", "--data", "samples"]
    words += ["--epochs", "1", "--batch-size", "5", "--timesteps", "1", "--output", str(tmp_path / "out")]
    code, out, err = pcbench(capsys, *words)
    assert code == 0, err
    found = tomllib.loads((tmp_path / "out" / "hyperparameters.toml").read_text())
    tuned, reported = found["images"]["tuned_on"], found["images"]["reported_on"]
    assert len({*tuned, *reported}) == len(tuned) + len(reported) == 20
    model = load_model(MODEL, "random", **found["options"])
    for values, wanted in zip(model.provenance["hyperparameters"], found["pcoders"], strict=True):  # type: ignore[call-overload]
        assert values == pytest.approx(wanted, abs=1e-5)
    assert "?feedforward=" in out


def test_hyperparameters_are_searched_with_a_stopping_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "hyperparameters", "--model", MODEL, "--weights", "random", "--data", "samples"]
    words += ["--method", "search", "--trials", "2", "--timesteps", "2", "--sigma", "0,1", "--pcoders", "1"]
    code, out, err = pcbench(capsys, *words, "--workers", "0", "--output", str(tmp_path / "out"))
    assert code == 0, err
    found = tomllib.loads((tmp_path / "out" / "hyperparameters.toml").read_text())
    assert 1 <= found["timesteps"] <= 2
    assert not set(found["images"]["tuned_on"]) & set(found["images"]["reported_on"])
    assert len(found["reported"]["after"]["by_sigma"]) == 2
    assert f"--timesteps {found['timesteps']} uses these values" in out
    assert len(pd.read_csv(tmp_path / "out" / "log.csv")) == 3
    assert load_model(MODEL, "random", **found["options"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["feedback", "--model", "vgg16", "--weights", "random", "--data", "samples"], "is not a predictive network"),
        (["feedback", "--model", MODEL, "--data", "sample"], "did you mean samples"),
        (
            ["feedback", "--model", MODEL, "--data", "samples", "--method", "gradient", "--learning-rate", "0"],
            "learning rate is 0.0",
        ),
        (
            ["feedback", "--model", MODEL, "--data", "samples", "--learning-rate", "1"],
            "--learning-rate is not for --method least-squares",
        ),
        (
            ["feedback", "--model", MODEL, "--data", "samples", "--start", "a.safetensors"],
            "--start is not for --method least-squares",
        ),
        (
            ["feedback", "--model", MODEL, "--data", "samples", "--held-out", "0"],
            "the held-out share is 0.0; least squares choose their ridges on held-out images",
        ),
        (
            ["feedback", "--model", "pvgg16-cifar", "--weights", "random", "--data", "samples"],
            "images are too few for least squares: PCoder 5 has 2,048 values in a window and needs 512",
        ),
        (["feedback", "--model", MODEL, "--data", "samples", "--device", "tpu"], "no device 'tpu'"),
        (["hyperparameters", "--model", MODEL, "--data", "samples", "--sigma", "x"], "is not a list of numbers"),
        (["hyperparameters", "--model", MODEL, "--data", "samples", "--gradient", "exakt"], "exakt"),
        (
            ["hyperparameters", "--model", MODEL, "--data", "samples", "--trials", "5"],
            "--trials is not for --method grad",
        ),
        (
            ["hyperparameters", "--model", MODEL, "--weights", "random", "--data", "samples", "--pcoders", "9"],
            "there is no PCoder 9; the network has 1 to",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, out, err = pcbench(capsys, "train", *words, "--output", str(tmp_path / "out"))
    assert code == 2, err
    assert message in err
    assert "error: "
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "out").exists()
