"""The public Predify package (github.com/miladmozafari/predify) as a rival, where whoever runs a benchmark has it.

Its code is GPL-3.0 and no part of this project: it is imported from the user's own copy, writes the network by its own
generator from the same configuration file, and gets the same weights.
"""

import copy
import importlib.util
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from pcbench.models.predictive.config import write_toml
from pcbench.models.predictive.network import PredictiveNet


def has_predify() -> bool:
    """Whether the package (and `toml`, which it needs) can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("predify", "toml"))


class Predify(nn.Module):
    """Predify's network with the weights and hyperparameters of one of ours whose scaling is kc.

    Its random trials of C are left out: what ours counts is written where it keeps theirs.
    """

    def __init__(self, net: PredictiveNet) -> None:
        super().__init__()
        import predify

        with tempfile.TemporaryDirectory() as folder:
            config, script = Path(folder) / "config.toml", Path(folder) / "generated.py"
            config.write_text(write_toml(net.config))
            predify.predify(copy.deepcopy(net.backbone), str(config), str(script))
            spec = importlib.util.spec_from_file_location("predify_generated", script)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        values = [each.values() for each in net.hyperparameters]
        terms = [tuple(value[name] for value in values) for name in ("feedforward", "feedback", "pc")]
        made = getattr(module, f"{net.config.name}SeparateHP", None) or getattr(module, f"{net.config.name}SameHP")
        shared = made.__name__.endswith("SameHP")
        self.net = made(copy.deepcopy(net.backbone), False, False, *(term[0] if shared else term for term in terms))
        for n, pcoder in enumerate(net.pcoders, start=1):
            theirs = getattr(self.net, f"pcoder{n}")
            theirs.pmodule.load_state_dict(pcoder.predictor.state_dict())
            theirs.C_sqrt = pcoder.C_sqrt.clone()

    def forward(self, x: Tensor, timesteps: int) -> Tensor:
        """Logits (T + 1, B, classes)."""
        return torch.stack([self.net(x)] + [self.net() for _ in range(timesteps)]).detach()
