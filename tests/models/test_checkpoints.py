from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.models import checkpoints
from pcbench.models.checkpoints import Metadata, load, load_feedback, read, save, tensors_checksum

META = Metadata(architecture="tiny", configuration="c0ffee", data="none", recipe="by hand")


def some_tensors() -> dict[str, Tensor]:
    return {
        "pcoders.0.predictor.weight": torch.randn(2, 3, 3, 3),
        "pcoders.0.predictor.bias": torch.randn(3),
        "count": torch.tensor([3]),
    }


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    tensors = some_tensors()
    written = save(tmp_path / "deep" / "w.safetensors", tensors, META)
    checkpoint = read(tmp_path / "deep" / "w.safetensors")
    assert checkpoint.metadata == written
    assert written.model_copy(update={"checksum": ""}) == META
    assert all(torch.equal(checkpoint.tensors[name], tensor) for name, tensor in tensors.items())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["w.safetensors"]


def test_half_precision_halves_the_file_and_comes_back_in_the_dtype_of_the_network(tmp_path: Path) -> None:
    tensors = {"w": torch.randn(1000), "count": torch.tensor([3])}
    save(tmp_path / "full", tensors, META)
    save(tmp_path / "half", tensors, META, half=True)
    sizes = [(tmp_path / name).stat().st_size for name in ("full", "half")]
    assert sizes[0] - sizes[1] == 2000
    loaded = load(tmp_path / "half", tensors)
    assert loaded["w"].dtype == torch.float32
    assert torch.equal(loaded["w"], tensors["w"].half().float())
    assert torch.equal(loaded["count"], tensors["count"])


def test_values_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"w has values that are not finite in float16"):
        save(tmp_path / "x", {"w": torch.tensor([1e6])}, META, half=True)
    with pytest.raises(UserError, match=r"w has values that are not finite$"):
        save(tmp_path / "x", {"w": torch.tensor([float("nan")])}, META)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    save(path, {"w": torch.ones(2)}, META)

    def killed(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
        file.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        save(path, {"w": torch.zeros(2)}, META)
    assert torch.equal(read(path).tensors["w"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_tensors_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    save(tmp_path / "w", {"a": shared, "b": shared, "c": shared[::2]}, META)
    assert torch.equal(read(tmp_path / "w").tensors["c"], torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("count"), r"'count' is missing, expected int64 \[1\]"),
        (lambda t: t.update(extra=torch.zeros(2)), r"'extra' \(float32 \[2\]\) is not expected"),
        (
            lambda t: t.update({"pcoders.0.predictor.bias": torch.zeros(4)}),
            r"'pcoders.0.predictor.bias' is float32 \[4\], expected float32 \[3\]",
        ),
        (lambda t: t.update(count=torch.tensor([3.0])), r"'count' is float32 \[1\], expected int64 \[1\]"),
    ],
)
def test_the_first_mismatch_is_named(tmp_path: Path, change: object, message: str) -> None:
    tensors = some_tensors()
    change(tensors)  # type: ignore[operator]  # a lambda
    save(tmp_path / "w.safetensors", tensors, META)
    with pytest.raises(UserError, match=r"weights w.safetensors does not fit: " + message):
        load(tmp_path / "w.safetensors", some_tensors())


def test_another_architecture_or_configuration_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "w", some_tensors(), META)
    load(tmp_path / "w", some_tensors(), architecture="tiny", configuration="c0ffee")
    with pytest.raises(UserError, match="are for 'tiny', expected 'pvgg16'"):
        load(tmp_path / "w", some_tensors(), architecture="pvgg16")
    with pytest.raises(UserError, match="hash c0ffee, expected decaf"):
        load(tmp_path / "w", some_tensors(), configuration="decaf")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_damage_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damage") / "w"
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(3)}
    save(path, tensors, META)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        loaded = load(path, tensors)
    except UserError:
        return
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())  # only descriptions differ


def test_files_of_others_are_refused_with_the_way_in(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "plain")
    with pytest.raises(UserError, match=r"no format version; expected 1 .*weights import"):
        read(tmp_path / "plain")
    save_file({"w": torch.zeros(1)}, tmp_path / "newer", metadata={"format_version": "9"})
    with pytest.raises(UserError, match="format version 9; expected 1"):
        read(tmp_path / "newer")
    save_file({"w": torch.zeros(1)}, tmp_path / "odd", metadata={"format_version": "1", "colour": "red"})
    with pytest.raises(UserError, match="metadata 'architecture': Field required"):
        read(tmp_path / "odd")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="damaged, or not a safetensors file"):
        read(tmp_path / "text")
    with pytest.raises(UserError, match="no file of weights"):
        read(tmp_path / "nowhere")


def test_the_checksum_sees_names_shapes_dtypes_and_values() -> None:
    base = {"a": torch.tensor([1.0, 2.0])}
    others = [
        {"b": torch.tensor([1.0, 2.0])},
        {"a": torch.tensor([[1.0, 2.0]])},
        {"a": torch.tensor([1.0, 2.5])},
        {"a": torch.tensor([1.0, 2.0]).view(torch.int32)},
    ]
    sums = [tensors_checksum(tensors) for tensors in [base, *others]]
    assert len(set(sums)) == 5
    two = {"a": torch.zeros(1), "b": torch.ones(1)}
    assert tensors_checksum(two) == tensors_checksum(dict(reversed(two.items())))


class Network(nn.Module):
    """Something with PCoders."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(2, 2)
        self.pcoders = nn.ModuleList(nn.Module() for _ in range(2))
        for pcoder in self.pcoders:
            pcoder.predictor = nn.ConvTranspose2d(2, 3, 3)
            pcoder.register_buffer("C_sqrt", torch.tensor(5.0))


def test_feedback_files_hold_predictors_only_and_may_leave_out_c_sqrt(tmp_path: Path) -> None:
    source, target = Network(), Network()
    tensors = checkpoints.feedback_tensors(source)
    assert len(tensors) == 6
    assert "backbone.weight" not in tensors
    source.pcoders[0].C_sqrt.fill_(7.0)
    del tensors["pcoders.1.C_sqrt"]
    save(tmp_path / "w", tensors, META)
    load_feedback(target, tmp_path / "w")
    assert torch.equal(target.pcoders[1].predictor.weight, source.pcoders[1].predictor.weight)
    assert float(target.pcoders[0].C_sqrt) == 7.0
    assert float(target.pcoders[1].C_sqrt) == 5.0
    assert not torch.equal(target.backbone.weight, source.backbone.weight)


def test_nothing_is_half_loaded(tmp_path: Path) -> None:
    source, target = Network(), Network()
    tensors = checkpoints.feedback_tensors(source)
    tensors["pcoders.1.predictor.bias"] = torch.zeros(9)
    save(tmp_path / "w", tensors, META)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(UserError, match=r"pcoders.1.predictor.bias"):
        load_feedback(target, tmp_path / "w")
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_the_stored_form_is_plain_safetensors(tmp_path: Path) -> None:
    save(tmp_path / "w", some_tensors(), META)
    assert set(load_file(tmp_path / "w")) == set(some_tensors())
