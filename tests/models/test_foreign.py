"""Networks of the user's own: what they declare is what holds, and what they do not declare is refused."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pcbench
from pcbench.errors import UserError
from pcbench.models.base import FeedforwardClassifier
from pcbench.models.foreign import ForeignClassifier, network
from pcbench.models.resolve import checksum, load_model, resolve

LIKE_CIFAR = network(size=32, classes="cifar10", normalises=True)


class Pooled(nn.Module):
    """Logits from a few means of the image; subclasses say in which form they come."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.linear = nn.Linear(48, classes)

    def logits(self, x: Tensor, t: int = 0) -> Tensor:
        out: Tensor = self.linear(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)) * (1 + t)
        return out


class Plain(Pooled):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


class Dynamic(Pooled):
    def forward(self, x: Tensor, timesteps: int) -> Tensor:
        return torch.stack([self.logits(x, t) for t in range(timesteps + 1)])


class Fixed(Pooled):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.logits(x, t) for t in range(4)]


@network(size=32, classes="cifar10", mean=0.5, std=(0.2, 0.25, 0.3), timesteps=3)
def dynamic() -> nn.Module:
    return Dynamic()


@network(size=32, classes="cifar10", normalises=True)
class Loaded(Plain):
    """Its parameters do not depend on a seed, but for the bias."""

    def __init__(self) -> None:
        super().__init__()
        self.linear.weight.data = torch.arange(480.0).view(10, 48) / 480


def test_the_forms_of_answers() -> None:
    x = torch.rand(3, 3, 32, 32)
    plain = load_model(LIKE_CIFAR(Plain()))
    assert isinstance(plain, FeedforwardClassifier)
    assert (plain.has_dynamics, plain.timesteps, plain.num_classes, plain.name) == (False, 0, 10, "Plain")
    assert torch.equal(plain(x)[0], plain.network(x))
    fixed = load_model(LIKE_CIFAR(Fixed()))
    assert isinstance(fixed, ForeignClassifier)
    assert (fixed.has_dynamics, fixed.timesteps) == (True, 3)
    assert fixed(x, timesteps=1).shape == (2, 3, 10)
    with pytest.raises(UserError, match=r"gives its answers up to t = 3; t = 4 is asked for"):
        fixed(x, timesteps=4)
    moving = load_model("test_foreign:dynamic")
    assert (moving.timesteps, moving.name, moving.weights) == (3, "test_foreign:dynamic", "own")
    normalised = (x - 0.5) / torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    torch.testing.assert_close(moving(x, timesteps=5), moving.network(normalised, timesteps=5))  # type: ignore[operator]


def test_what_is_resolved_says_what_runs() -> None:
    found = resolve("test_foreign:dynamic")
    assert (found.label_space, found.num_classes, found.timesteps, found.family) == ("cifar10", 10, 3, "foreign")
    assert len(found.source) == 64
    assert found.notices == ()
    assert found.baseline is None
    assert resolve("pvgg16-cifar").source == ""


def test_the_module_that_is_handed_over_stays_as_it_is() -> None:
    mine = LIKE_CIFAR(Plain()).train()
    loaded = load_model(mine)
    loaded.network.linear.weight.data.zero_()  # type: ignore[union-attr,operator]
    assert mine.training
    assert mine.linear.weight.requires_grad
    assert bool(mine.linear.weight.any())


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        ({"size": 32, "classes": "cifar10"}, "say how images are normalised"),
        ({"size": 32, "classes": "cifar10", "mean": 0.5, "std": 0.5, "normalises": True}, "say how images are"),
        ({"size": 32, "classes": "cifar10", "mean": 0.5}, "mean and std go together"),
        ({"size": 0, "classes": 10, "normalises": True}, "size is 0; it is a number of pixels"),
        ({"size": 32, "classes": 1, "normalises": True}, "classes is 1; two are the least"),
        ({"size": 32, "classes": 10, "mean": 0.5, "std": 0.0}, "no normalisation of 3 channels"),
        ({"size": 32, "classes": 10, "normalises": True, "timesteps": -1}, "timesteps is -1"),
    ],
)
def test_a_declaration_that_cannot_be(declare: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        network(**declare)  # type: ignore[arg-type]


class WrongBatch(Pooled):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).mean(0, keepdim=True)


class Raises(Pooled):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("of no use")


@pytest.mark.parametrize(
    ("declared", "module", "says"),
    [
        (
            None,
            Plain(),
            "Plain does not say what images it takes and whose classes it knows; nothing of that is assumed",
        ),
        (LIKE_CIFAR, WrongBatch(), r"gives \(1, 10\) for 2 images; it must give logits \(2, classes\) or \(T \+ 1, 2,"),
        (LIKE_CIFAR, Raises(), r"fails on images \(2, 3, 32, 32\): ValueError: of no use"),
        (
            network(size=32, classes=7, normalises=True),
            Plain(),
            "gives 10 logits for each image; it is declared with 7",
        ),
        (network(size=32, classes=10, normalises=True, timesteps=2), Plain(), "2 timesteps and gives one answer"),
        (
            network(size=32, classes=10, normalises=True, timesteps=2),
            Fixed(),
            "gives 4 answers, of t = 0..3; declare 3",
        ),
    ],
)
def test_what_does_not_fit_is_refused(declared: network | None, module: nn.Module, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_model(module if declared is None else declared(module))


def test_random_means_random_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first, again, other = (load_model("test_foreign:dynamic", "random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(2), expected)
    assert checksum(first) == checksum(again) != checksum(other)
    with pytest.raises(UserError, match=r"'linear\.weight' is the same whatever the seed, so it is loaded, not drawn"):
        load_model("test_foreign:Loaded", "random")
    with pytest.raises(UserError, match="there already, with its parameters; it has no random ones"):
        load_model(LIKE_CIFAR(Plain()), "random")


def test_editing_the_source_makes_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import pcbench\nfrom layers_of_mine import Net\n\n@pcbench.network(size=8, classes=3, normalises=True)\n"
    helper = (
        "from torch import nn\n\nclass Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(192, 3))\n"
    )
    digests = []
    for number, comment in enumerate(["", "# edited\n", ""]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model_of_mine.py").write_text(text + "def net():\n    return Net()\n")
        (folder / "layers_of_mine.py").write_text(comment + helper)
        (folder / "not_imported.py").write_text(f"# {number}\n")
        for name in ("model_of_mine", "layers_of_mine"):
            sys.modules.pop(name, None)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry and "mine" not in entry])
        pcbench.models.spec.MODELS._places.clear()  # as in a new process
        digests.append(resolve("model_of_mine:net").source)
        sys.path.remove(str(folder))
    assert digests[0] == digests[2] != digests[1]


def test_options_are_typed_and_records_hold_contents_of_files(tmp_path: Path) -> None:
    found = resolve("pvgg16-cifar?pc=0.1,0.2,0.3,0.4,0.5", options={"feedforward": "0.2", "init_noise": "3"})
    assert found.options == {"pc": [0.1, 0.2, 0.3, 0.4, 0.5], "feedforward": 0.2, "init_noise": 3}
    assert (
        resolve("pvgg16-cifar?feedforward=0.20").options
        == resolve("pvgg16-cifar", options={"feedforward": 0.2}).options
    )
    with pytest.raises(UserError, match="feedforward is 'x'; it is a number, or one per PCoder"):
        resolve("pvgg16-cifar?feedforward=x")
    file = tmp_path / "mine.toml"
    file.write_text('[[pcoders]]\nmodule = "features[3]"\n')
    one = resolve(f"predify:vgg16?config={file}", "random").options["config"]
    file.write_text('[[pcoders]]\nmodule = "features[6]"\n')
    other = resolve("predify:vgg16", "random", options={"config": file}).options["config"]
    assert str(one).startswith("mine.toml:")
    assert one != other


def test_feedback_weights_of_another_configuration_have_a_file_of_their_own(tmp_path: Path) -> None:
    from pcbench.training.start import feedback_place

    file = tmp_path / "mine.toml"
    file.write_text('[[pcoders]]\nmodule = "features[3]"\n')
    plain = feedback_place("predify:vgg16", "imagenet1k")
    own = feedback_place(f"predify:vgg16?config={file}", "imagenet1k")
    assert plain != own
    assert own.name.startswith("predify-vgg16-imagenet1k-")


def test_checksums_see_parameters_and_buffers_and_no_memory_format() -> None:
    one, other = load_model("vgg16-cifar", "random"), load_model("vgg16-cifar", "random")
    other = other.to(memory_format=torch.contiguous_format)
    assert checksum(one) == checksum(other)
    other.mean.add_(1e-3)
    assert checksum(one) != checksum(other)
