from pathlib import Path

import pytest
import torch

from pcbench.cli.app import main
from pcbench.models.checkpoints import Metadata, feedback_tensors, save
from pcbench.models.resolve import load_model
from pcbench.training.start import structure

MODEL = "pefficientnet-lite0"


def pcbench(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(words)
    out = capsys.readouterr()
    return int(caught.value.code or 0), out.out, out.err


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path / "mine"))
    return tmp_path


def test_weights_go_out_and_come_in_again(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = structure(MODEL)
    tensors = feedback_tensors(network.network)
    meta = Metadata(architecture=MODEL, configuration=str(network.provenance["configuration"]))
    save(mine / "w.safetensors", tensors, meta)
    code, out, err = pcbench(
        capsys, "weights", "export", MODEL, str(mine / "old"), "--file", str(mine / "w.safetensors")
    )
    assert (code, err) == (0, "")
    assert len(list((mine / "old").iterdir())) == 8
    code, out, err = pcbench(capsys, "weights", "import", MODEL, str(mine / "old"), "--output", str(mine / "b"))
    assert (code, err) == (0, "")
    code, out, err = pcbench(capsys, "weights", "verify", str(mine / "b"), "--model", MODEL)
    assert code == 0, err
    assert "b: good, 24 tensors" in out
    again = feedback_tensors(network.network)
    assert all(torch.equal(tensor, again[name]) for name, tensor in tensors.items())
    code, out, err = pcbench(capsys, "weights", "export", MODEL, str(mine / "old"), "--file", str(mine / "b"))
    assert code == 2
    assert "is not an empty folder; nothing was written" in err


def test_bad_input_is_one_line_and_writes_nothing(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "x_pc1.pth").write_text("hello")
    eight = mine / "eight"
    eight.mkdir()
    for n, content in enumerate(_contents(structure(MODEL)), start=1):
        torch.save(content, eight / f"pc{n}.pth")
    for words, message in [
        (("verify", str(mine / "none")), "no file of weights"),
        (("verify", str(mine / "x_pc1.pth")), "damaged, or not a safetensors file"),
        (("import", MODEL, str(mine / "x_pc1.pth")), "there is no file for PCoder 2 of 8"),
        (("import", "pefficientnet-lite", str(mine / "x_pc1.pth")), "did you mean pefficientnet-lite"),
        (("import", "efficientnet-lite0", str(mine / "x_pc1.pth")), "is not a predictive network"),
        (("import", MODEL, "--weights", "imagenet", str(mine / "x_pc1.pth")), "did you mean imagenet1k"),
        (("import", MODEL), "Missing argument"),
        (("import", MODEL, str(eight)), "the feedback weights are those of an installed package"),
    ]:
        code, out, err = pcbench(capsys, "weights", *words)
        assert code == 2, words
        assert message in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert out == ""
    assert sorted(path.name for path in mine.iterdir()) == ["eight", "x_pc1.pth"]


def test_imported_weights_are_what_the_model_loads(
    mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "predify:efficientnet-lite0"
    source = structure(name)
    for n, content in enumerate(_contents(source), start=1):
        torch.save(content, mine / f"pnet_pretrained_pc{n}_9.pth")
    code, _, err = pcbench(capsys, "weights", "import", name, *[str(path) for path in mine.glob("*.pth")])
    assert code == 0, err
    model = load_model(name, "imagenet1k")
    wanted, found = feedback_tensors(source.network), feedback_tensors(model.network)  # type: ignore[arg-type]
    assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.items())


def _contents(source: object) -> list[dict[str, object]]:
    from pcbench.models.published import export_published

    network = source.network  # type: ignore[attr-defined]
    return export_published(network, feedback_tensors(network), "pcoderweights")
