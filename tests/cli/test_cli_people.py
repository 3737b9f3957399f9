"""`pcbench people`: a network's own answers on stimuli of a folder, beside trials of the model-vs-human form."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import pcbench
from pcbench.analysis.trials import CATEGORIES, COLUMNS
from pcbench.cli.people import command
from pcbench.errors import UserError

MAPPING = {name: [60 * k, 60 * k + 1] for k, name in enumerate(CATEGORIES)}
MODEL = ["--model", "pefficientnet-lite0", "--weights", "random", "--timesteps", "1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """12 stimuli of one condition, two observers, the mapping."""
    generator = np.random.default_rng(0)
    (tmp_path / "stimuli").mkdir()
    for observer in (1, 2):
        rows = []
        for k in range(12):
            tail = f"c10_{CATEGORIES[k]}_10_n0000{k:04d}_{k}.png"
            if observer == 1:
                pixels = generator.integers(0, 256, (224, 224, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "stimuli" / f"0001_cop_s01_{tail}")
            said = CATEGORIES[k if k % 3 else (k + 1) % 16]
            name = f"{k:04d}_cop_s{observer:02d}_{tail}"
            rows.append([f"s{observer}", 1, k, 0.4 + 0.01 * ((7 * k) % 12), said, CATEGORIES[k], "c10", name])
        with (tmp_path / f"s{observer}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    (tmp_path / "mapping.json").write_text(json.dumps(MAPPING))
    return tmp_path


def arguments(folder: Path) -> list[str]:
    trials = [word for s in (1, 2) for word in ("--trials", str(folder / f"s{s}.csv"))]
    return [str(folder / "stimuli"), *trials, "--mapping", str(folder / "mapping.json"), *MODEL]


def test_the_numbers_are_those_of_the_network_asked_by_hand(folder: Path) -> None:
    result = CliRunner().invoke(command, [*arguments(folder), "--json"], catch_exceptions=False)
    rows = json.loads(result.stdout)["rows"]
    files = sorted((folder / "stimuli").glob("*.png"))
    images = torch.stack([torch.from_numpy(np.asarray(Image.open(f)).copy()).permute(2, 0, 1) for f in files]) / 255
    with torch.inference_mode():
        p = pcbench.load_model("pefficientnet-lite0", "random")(images, timesteps=1).softmax(-1).numpy()
    means = np.stack([p[..., MAPPING[name]].mean(-1) for name in CATEGORIES], axis=-1)
    truth = [CATEGORIES.index(file.name.split("_")[4]) for file in files]
    assert [row["network"] for row in rows] == pytest.approx((means.argmax(-1) == truth).mean(-1).tolist())
    assert [row["people"] for row in rows] == pytest.approx([8 / 12] * 2)
    assert rows[0]["kappa_people"] == pytest.approx(1.0)
    said = CliRunner().invoke(command, arguments(folder), catch_exceptions=False).output
    assert "people: 66.7 % of 12 stimuli, 2 observers" in said
    assert "c10: pefficientnet-lite0 [random] and people" in said


def test_a_network_of_other_classes_and_a_folder_without_images_are_refused(folder: Path) -> None:
    words = arguments(folder)
    other = [*words[: -len(MODEL)], "--model", "vgg16-cifar", "--weights", "random"]
    with pytest.raises(UserError, match="10 classes; the mapping is of the 1000"):
        CliRunner().invoke(command, other, catch_exceptions=False)
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        CliRunner().invoke(command, [str(folder / "empty"), *words[1:]], catch_exceptions=False)
