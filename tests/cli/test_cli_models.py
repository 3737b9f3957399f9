"""The commands about models, as a user types them."""

import json
import tomllib

import pandas as pd
import pytest

from pcbench.cli.app import main
from pcbench.models.predictive.config import read_config
from pcbench.models.resolve import load_model


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command line: (exit code, standard output, standard error)."""
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("PCBENCH_IMAGENET", raising=False)

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


def test_the_list_of_models(run):
    code, out, _ = run("models")
    assert code == 0
    assert "pefficientnet-lite0" in out
    assert all(len(line) < 80 for line in out.splitlines())
    assert "  pvgg16-cifar                       T  5  cifar10-half, cifar10-half-published" in out.splitlines()
    assert out.index("weights at hand") < out.index("pefficientnet-lite0") < out.index("without (")
    code, out, _ = run("models", "--json")
    listed = json.loads(out)
    assert {"pvgg16", "presnet50", "efficientnet-b0"} <= {row["name"] for row in listed["models"]}
    assert {"timm", "torchvision", "robustbench", "predify", "averaging", "diffusion"} == {
        row["name"] for row in listed["sources"]
    }


def test_everything_about_one_model(run):
    code, out, _ = run("models", "presnet18")
    assert code == 0
    assert "resnet18-f37072fd.pth" in out
    assert "missing" in out
    code, out, _ = run("models", "presnet18", "--json")
    assert json.loads(out)["built"]["modules"] == ["layer1", "layer2", "layer3", "layer4"]


def test_a_written_configuration_runs(run, tmp_path):
    path = tmp_path / "net.toml"
    code, out, _ = run("predify", "timm:test_resnet", "--output", str(path), "--pc", "0.02")
    assert code == 0
    assert f"predify:timm:test_resnet?config={path}" in out
    assert {table.hyperparameters.pc for table in read_config(path).pcoders} == {0.02}
    code, out, err = run(
        "dynamics", f"predify:timm:test_resnet?config={path}", "--weights", "random", "--limit", "2", "--timesteps",
        "2", "--output", str(tmp_path / "figure"),
    )  # fmt: skip
    assert code == 0
    assert "samples" in err
    assert "memory" in out
    shares = pd.read_csv(tmp_path / "figure" / "dynamics.csv")
    assert len(shares) == 2 * len(read_config(path).pcoders)
    assert (tmp_path / "figure" / "dynamics.png").stat().st_size > 1000
    code, _, err = run("predify", "timm:test_resnet", "--output", str(path))
    assert code == 2
    assert "exists" in err


def test_a_configuration_goes_to_standard_output(run):
    code, out, _ = run("predify", "timm:test_resnet", "--module", "layer2", "--module", "layer3")
    assert code == 0
    assert out.count("[[pcoders]]") == 2


def test_pcoders_are_written_where_the_network_by_name_has_them(run):
    name = "timm:test_efficientnet"
    code, out, _ = run("predify", name)
    assert code == 0
    by_name = load_model(f"predify:{name}", "random").provenance["modules"]
    assert [table["module"] for table in tomllib.loads(out)["pcoders"]] == by_name


def test_an_ablation_without_feedback_has_no_feedback_term(run):
    code, out, _ = run(
        "dynamics", "predify:timm:test_resnet?dynamics=no-feedback", "--weights", "random", "--limit", "1",
        "--timesteps", "1", "--json",
    )  # fmt: skip
    assert code == 0
    rows = json.loads(out)
    assert rows
    assert all(row["feedback"] == 0 and row["memory"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models", "pvg16"], "did you mean pvgg16"),
        (["predify", "pvgg16"], "dynamics already"),
        (["predify", "timm:test_resnet", "--module", "layer9"], "did you mean layer"),
        (["predify", "timm:test_resnet", "--module", "a["], "write it like"),
        (["predify", "timm:test_resnet", "--feedback", "0.9"], "leave memory"),
        (["predify", "timm:test_vit"], "shrinks nowhere"),
        (["dynamics", "efficientnet-lite0"], "no predictive dynamics"),
        (["dynamics", "presnet18", "--weights", "random", "--timesteps", "0"], "from 1 on"),
        (["dynamics", "presnet18?dynamics=ful", "--weights", "random"], "did you mean full"),
        (["dynamics", "presnet18?dynamic=full", "--weights", "random"], "did you mean dynamics"),
        (["dynamics", "presnet18", "--weights", "imagenet2k"], "did you mean imagenet1k"),
        (["dynamics", "presnet18"], "what runs now: --weights random"),
        (["dynamics", "presnet18", "--weights", "random", "--data", "sample"], "did you mean samples"),
        (["dynamics", "predify:timm:test_resnet?config=/none.toml", "--weights", "random"], "no configuration file"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(run, words, message):
    code, out, err = run(*words)
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err
    assert not out
