import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from pcbench.errors import UserError
from pcbench.models.checkpoints import Metadata, feedback_tensors, load_feedback, save
from pcbench.models.published import export_published, import_published, in_order, read_published


def network(sequential: bool = False) -> nn.Module:
    """Two PCoders: of one layer (or that layer in a Sequential), and of a layer with a ReLU behind it."""
    net = nn.Module()
    net.pcoders = nn.ModuleList(nn.Module() for _ in range(2))
    first = nn.ConvTranspose2d(4, 3, 5, padding=2)
    net.pcoders[0].predictor = nn.Sequential(first) if sequential else first
    net.pcoders[1].predictor = nn.Sequential(nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1), nn.ReLU())
    for pcoder in net.pcoders:
        pcoder.register_buffer("C_sqrt", torch.tensor(2.0))
    return net


def write(folder: Path, layout: str, source: nn.Module, prefix: str = "0.") -> list[Path]:
    """The files that the published package would have written."""
    paths = []
    for n, pcoder in enumerate(source.pcoders, start=1):
        state = dict(pcoder.predictor.state_dict())
        if n == 1:
            state = {prefix + name.removeprefix("0."): tensor for name, tensor in state.items()}
        if layout == "pmodule":
            path = folder / f"pvgg16_imagenet_pretrained_pc{n}_pmodule.pth"
            torch.save(state, path)
        else:
            path = folder / f"pnet_pretrained_pc{n}_9.pth"
            weights = {f"pmodule.{name}": tensor for name, tensor in state.items()}
            if n == 2:
                weights["C_sqrt"] = torch.tensor([8.0])
            torch.save({"pcoderweights": weights, "optimizer": {"lr": 0.1}, "epoch": 9}, path)
        paths.append(path)
    return paths


@pytest.mark.parametrize("layout", ["pmodule", "pcoderweights"])
@pytest.mark.parametrize("prefix", ["0.", ""])
@pytest.mark.parametrize("sequential", [False, True])
def test_both_published_layouts_load(tmp_path: Path, layout: str, prefix: str, sequential: bool) -> None:
    source, target = network(), network(sequential)
    tensors = import_published(target, list(reversed(write(tmp_path, layout, source, prefix))))
    save(tmp_path / "w", tensors, Metadata(architecture="x"))
    load_feedback(target, tmp_path / "w")
    for n in range(2):
        e = torch.randn(1, (4, 6)[n], 6, 6)
        assert torch.equal(source.pcoders[n].predictor(e), target.pcoders[n].predictor(e))
    assert float(target.pcoders[0].C_sqrt) == 2.0
    assert float(target.pcoders[1].C_sqrt) == (8.0 if layout == "pcoderweights" else 2.0)


@pytest.mark.parametrize("layout", ["pmodule", "pcoderweights"])
def test_what_is_exported_is_imported_again(tmp_path: Path, layout: str) -> None:
    source, target = network(), network()
    source.pcoders[1].C_sqrt.fill_(5.0)
    paths = []
    for n, content in enumerate(export_published(source, feedback_tensors(source), layout), start=1):
        paths.append(tmp_path / f"x_pc{n}.pth")
        torch.save(content, paths[-1])
    tensors = import_published(target, paths)
    expected = feedback_tensors(source)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
    assert ("pcoders.1.C_sqrt" in tensors) == (layout == "pcoderweights")


def test_files_cannot_run_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(marker).touch.__func__.__globals__["os"].system, (f"touch {marker}",))

    torch.save({"0.weight": Hostile()}, tmp_path / "x_pc1.pth")
    (tmp_path / "x_pc2.pth").write_bytes(pickle.dumps(Hostile()))
    for name in ("x_pc1.pth", "x_pc2.pth"):
        with pytest.raises(UserError, match=r"x_pc. ?|is refused|is damaged"):
            read_published(tmp_path / name)
    assert not marker.exists()


def test_damaged_and_strange_files_are_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, "pmodule", network())[0]
    content = path.read_bytes()
    for damaged in (b"", b"hello", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            read_published(path)
        assert "\n" not in str(caught.value)
        assert path.name in str(caught.value)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="is no published checkpoint"):
        read_published(path)
    with pytest.raises(UserError, match="no file of weights"):
        read_published(tmp_path / "nowhere.pth")


def test_the_first_misfit_is_named(tmp_path: Path) -> None:
    source = network()
    source.pcoders[1].predictor = nn.Sequential(nn.ConvTranspose2d(6, 5, 4), nn.ReLU())
    with pytest.raises(UserError, match=r"pc2_pmodule.pth does not fit: 'predictor.0.weight' is float32 \[6, 5"):
        import_published(network(), write(tmp_path, "pmodule", source))


def test_every_pcoder_needs_one_numbered_file(tmp_path: Path) -> None:
    name = lambda text: tmp_path / text  # noqa: E731
    assert in_order([name("a_pc2_1.pth"), name("a_pc1_9.pth")], 2) == [name("a_pc1_9.pth"), name("a_pc2_1.pth")]
    for files, message in [
        (["a_pc1.pth"], "no file for PCoder 2 of 2"),
        (["a_pc1.pth", "b_pc1.pth"], "are both for PCoder 1"),
        (["a_pc1.pth", "a_pc2.pth", "a_pc3.pth"], "a_pc3.pth is for PCoder 3; the network has 2"),
        (["weights.pth"], "does not say which PCoder"),
    ]:
        with pytest.raises(UserError, match=message):
            in_order([name(file) for file in files], 2)
