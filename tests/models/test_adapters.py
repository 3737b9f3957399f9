"""Adapters to networks of other libraries; the spiking one with snnTorch itself where it is installed."""

import sys
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from pcbench.errors import UserError
from pcbench.harness.conformance import check_model
from pcbench.models.adapters.over_time import OverTime
from pcbench.models.adapters.spiking import RateCoded
from pcbench.models.foreign import network
from pcbench.models.resolve import load_model, resolve

SMALL = network(size=32, classes=10, normalises=True, timesteps=4)
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Stepwise(nn.Module):
    """Two steps until the image reaches the readout; one list entry a step."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(48, 10)

    def forward(self, x: Tensor, n_steps: int) -> list[Tensor]:
        seen = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return [self.linear(seen) * max(0, step - 1) for step in range(n_steps)]


class Spiking(nn.Module):
    """Integrate and fire, without leak; remembers its potentials until `reset`."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(48, 10)
        self.potential: Tensor | None = None

    def reset(self) -> None:
        self.potential = None

    def forward(self, x: Tensor) -> Tensor:
        drive = self.linear(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))
        potential = drive if self.potential is None else self.potential + drive
        spikes = torch.sigmoid(20 * (potential - 0.5))
        self.potential = potential - spikes
        return spikes


def snn() -> nn.Module:
    snntorch = pytest.importorskip("snntorch")
    neuron = {"beta": 0.9, "init_hidden": True}
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(192, 64), snntorch.Leaky(**neuron), nn.Linear(64, 10),
        snntorch.Leaky(**neuron, output=True),
    )  # fmt: skip


def conforms(module: nn.Module) -> None:
    findings = list(check_model(resolve(SMALL(module)), IMAGES))
    assert [finding for finding in findings if finding.holds is False] == []


def test_lists_of_logits_over_time() -> None:
    model = load_model(SMALL(OverTime(Stepwise(), "n_steps", first=2)))
    found = model(IMAGES, timesteps=3)
    torch.testing.assert_close(
        found[0], model.network.network.linear(nn.functional.adaptive_avg_pool2d(IMAGES, 4).flatten(1))
    )  # type: ignore[union-attr,operator]
    torch.testing.assert_close(found[3], 4 * found[0])
    conforms(OverTime(Stepwise(), "n_steps", first=2))


def test_spikes_are_averaged_and_forgotten() -> None:
    model = load_model(SMALL(RateCoded(Spiking())))
    found = model(IMAGES)
    steps = found * torch.arange(1, 6).view(-1, 1, 1)
    each = torch.diff(steps, dim=0, prepend=torch.zeros(1, 3, 10))
    assert -1e-6 <= float(each.detach().min()) <= float(each.detach().max()) <= 1.001
    assert float((found[4] - found[0]).detach().abs().max()) > 0.01
    assert model.network.network.potential is None  # type: ignore[union-attr]
    conforms(RateCoded(Spiking()))


def test_a_network_of_snntorch() -> None:
    torch.manual_seed(0)
    model = load_model(SMALL(RateCoded(snn())))
    found = model(IMAGES)
    assert set((5 * found[4]).unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    assert torch.equal(found, model(IMAGES))


def test_a_network_that_cannot_forget_is_refused() -> None:
    with pytest.raises(UserError, match="no module of Linear has a way to forget its state"):
        RateCoded(nn.Linear(2, 2))(torch.zeros(1, 2), timesteps=1)


class Threat(Enum):
    LINF = "Linf"


@pytest.fixture
def robustbench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The documented interface of the package: its table of models and its load_model, with one small network."""

    def made() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))

    def load(name: str, model_dir: Path, dataset: str, threat_model: str) -> nn.Module:
        model = made()
        model.load_state_dict(torch.load(model_dir / dataset / threat_model / f"{name}.pt", weights_only=True))
        return model

    zoo, utils = ModuleType("robustbench.model_zoo"), ModuleType("robustbench.utils")
    zoo.model_dicts = {Data.CIFAR10: {Threat.LINF: {"Small2024": {"model": made}}}}  # type: ignore[attr-defined]
    utils.load_model = load  # type: ignore[attr-defined]
    for name, module in (("robustbench", ModuleType("robustbench")), (zoo.__name__, zoo), (utils.__name__, utils)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("PCBENCH_WEIGHTS", str(tmp_path))
    file = tmp_path / "robustbench" / "cifar10" / "Linf" / "Small2024.pt"
    file.parent.mkdir(parents=True)
    torch.save(made().state_dict(), file)
    return file


class Data(Enum):
    CIFAR10 = "cifar10"


def test_models_of_robustbench(robustbench: Path) -> None:
    found = resolve("robustbench:cifar10/Linf/Small2024")
    assert (found.weights, found.label_space, found.num_classes) == ("robustbench", "cifar10", 10)
    weight = torch.load(robustbench, weights_only=True)["2.weight"]
    model = found.build()
    assert torch.equal(model.network[2].weight, weight)  # type: ignore[index]
    torch.testing.assert_close(model(IMAGES)[0], model.network(IMAGES))  # type: ignore[operator]
    robustbench.unlink()
    with pytest.raises(UserError, match=r"no weights are at hand; missing: .*Small2024\.pt"):
        resolve("robustbench:cifar10/Linf/Small2024")
    with pytest.raises(UserError, match=r"no model 'Small2042' for cifar10, Linf; did you mean Small2024\?"):
        resolve("robustbench:cifar10/Linf/Small2042")


def test_cornet_s_answers_after_each_repeat() -> None:
    from pcbench.models.base import Preprocessing
    from pcbench.models.cornet_s import CORnetS

    torch.manual_seed(0)
    model = CORnetS(10, Preprocessing((64, 64), (0.5,) * 3, (0.25,) * 3)).eval().requires_grad_(False)
    assert model.timesteps == 3
    answers = model(torch.rand(2, 3, 64, 64), timesteps=5)
    assert all(not torch.equal(answers[t], answers[t + 1]) for t in range(3))
    assert torch.equal(answers[3], answers[4])
    with_normalisations = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert with_normalisations == 2 + 3 + 3 * (2 + 4 + 2)  # V1's, the skips', three a pass


def test_cornet_s_has_the_published_number_of_parameters() -> None:
    model = load_model("cornet-s", "random")
    assert sum(parameter.numel() for parameter in model.parameters()) == 53_416_616
