"""Bad input: one line that says what is wrong and what would be right, exit code 2, nothing written."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcbench.cli.app import main

LITE = ["--model", "efficientnet-lite0", "--weights", "random"]


def ask(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that a command is refused with."""
    assert ask(*words) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith(("notice:", "loading", "reading"))]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    return lines[0]


def picture(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)).save(path, quality=95)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PCBENCH_IMAGENET", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--model", "pvg16", "--suite", "clean"], "did you mean pvgg16"),
        (["run", "--model", "efficientnet-lite0", "--suite", "imagenet-d"], "did you mean imagenet-c"),
        (
            ["run", "--model", "efficientnet-lite0", "--weights", "imagenet2k", "--suite", "clean"],
            "did you mean imagenet1k",
        ),
        (["run", *LITE, "--suite", "clean", "--data", "sample"], "did you mean samples"),
        (["run", *LITE, "--suite", "clean", "--data", "./absent"], "no data folder ./absent"),
        (["run", *LITE, "--suite", "clean", "--timesteps", "-1"], "timesteps is -1"),
        (["run", *LITE, "--suite", "clean", "--limit", "0"], "limit is 0"),
        (["run", *LITE, "--suite", "clean", "--batch-size", "none"], "batch size is 'none'"),
        (["run", *LITE, "--suite", "clean", "--dtype", "bfloat"], "did you mean bfloat16"),
        (["run", *LITE, "--suite", "clean", "--device", "gpu"], "no device 'gpu'"),
        (["run", *LITE, "--suite", "clean", "--engine", "lokal"], "did you mean local"),
        (["run", *LITE, "--suite", "clean", "--workers", "-2"], "workers is -2"),
        (["run", *LITE, "--suite", "imagenet-c", "--corruption-backend", "nativ"], "did you mean native"),
        (["run", *LITE, "--suite", "clean", "--dynamics", "full"], "none of the models has an option 'dynamics'"),
        (["run", "--model", "pefficientnet-lite0", "--suite", "clean", "--dynamics", "no-eror"], "no-error"),
        (["run", "--model", "pefficientnet-lite0?dynamic=full", "--suite", "clean"], "did you mean dynamics"),
        (["run", *LITE, "--suite", "manifold"], "has none"),
        (["run", "--suite", "clean"], "no model given"),
        (["run", *LITE], "no suite given"),
        (["run", *LITE, "--suite", "clean", "--suite", "clean"], "given twice"),
        (["run", "--modle", "pvgg16"], "did you mean --model"),
        (["run", *LITE, "--suite", "clean", "--seed", "x"], "--seed"),
        (["rnu"], "did you mean run"),
        (["models", "pvg16"], "did you mean pvgg16"),
        (["suites", "clena"], "did you mean clean"),
        (["data", "smaples"], "did you mean samples"),
        (["data", "imagenet", "--download", "here"], "cannot be downloaded"),
        (["results", "absent"], "no directory absent"),
    ],
)
def test_wrong_words_are_refused(here: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str) -> None:
    assert says in refused(capsys, *words)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: root.mkdir(), "has no class folders"),
        (lambda root: (root / "n01440764").mkdir(parents=True), "has no images"),
        (lambda root: picture(root / "tench" / "a.png"), "unknown class folders: tench"),
        (lambda root: [picture(root / name / "a.png") for name in ("n01440764", "n99999999")], "n99999999"),
    ],
)
def test_a_wrong_data_folder_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], make: object, says: str
) -> None:
    make(here / "images")  # type: ignore[operator]
    before = sorted(here.rglob("*"))
    assert says in refused(capsys, "run", *LITE, "--suite", "clean", "--data", "./images")
    assert sorted(here.rglob("*")) == before


def test_a_truncated_image_is_named_or_skipped_and_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(3):
        picture(here / "images" / "n01440764" / f"{index}.jpg", index)
    bad = here / "images" / "n01440764" / "1.jpg"
    bad.write_bytes(bad.read_bytes()[:300])
    words = [
        "run",
        *LITE,
        "--suite",
        "clean",
        "--data",
        "./images",
        "--output",
        "out",
        "--workers",
        "0",
        "--no-figures",
    ]
    assert "n01440764/1.jpg" in refused(capsys, *words)
    assert not (here / "out").exists()
    assert ask(*words, "--skip-bad-images") == 0
    from pcbench.results.requests import read_requests
    from pcbench.results.study import load_results

    assert read_requests(here / "out").requests[0].skipped == ["n01440764/1.jpg"]
    assert {cell.key.data.n for cell in load_results(here / "out").cells} == {2}


HEAD = "name='x'\nversion=1\ndescription=''\n[[perturbations]]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = 'x'", "the key 'version' is missing"),
        ("name = ", "is not valid TOML"),
        (HEAD + "kind='corruptoin'", "did you mean corruption"),
        (HEAD + "kind='corruption'\nnames=['fgo']", "did you mean fog"),
        (HEAD + "kind='corruption'\nseverities=[6]", "6"),
        (HEAD + "kind='noise'\nsigma=[-1]", "sigma"),
        (HEAD + "kind='noise'\nsigma=[1]\nsigme=2", "did you mean sigma"),
    ],
)
def test_a_wrong_suite_file_is_refused(here: Path, capsys: pytest.CaptureFixture[str], text: str, says: str) -> None:
    (here / "x.toml").write_text(text)
    assert says in refused(capsys, "run", *LITE, "--suite", "x.toml")


@pytest.mark.parametrize(
    ("pcoder", "says"),
    [
        ("module = 'layer9'", "did you mean layer"),
        ("module = 'layer1'\npredictor = '__import__(\"os\").getcwd()'", "PCoder 1"),
        ("module = 'layer1'\npredictor = 'Linear(3, 4)'", "PCoder 1"),
        ("module = 'layer1'\npredictor = 'ConvTranspose2d(64, 5, 3)'", "[5"),
        ("predictor = 'ReLU()'", "module"),
    ],
)
def test_a_wrong_configuration_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], pcoder: str, says: str
) -> None:
    (here / "net.toml").write_text(f"name = 'x'\ninput_size = [3, 64, 64]\n[[pcoders]]\n{pcoder}\n")
    words = ["run", "--model", "predify:resnet18?config=net.toml", "--weights", "random", "--suite", "clean"]
    assert says in refused(capsys, *words)
