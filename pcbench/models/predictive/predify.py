"""`pcbench.predify`: from an ordinary network to a predictive one."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from pcbench.models.predictive.config import PredictiveConfig, read_config
from pcbench.models.predictive.network import PredictiveNet


def predify(backbone: nn.Module, config: str | Path | Mapping[str, Any] | PredictiveConfig) -> PredictiveNet:
    """Give a network predictive-coding dynamics.

    Args:
        backbone: maps normalised images (B, C, H, W) to logits (B, classes). It is copied, and left untouched.
        config: a TOML file in Predify's format, a dict of the same form, or a PredictiveConfig.

    Returns:
        A network with logits = net(x, timesteps=T), of shape (T + 1, B, classes), and net.unroll(x, timesteps=T).
        Its predictors are freshly initialised from torch's random number generator.

    Raises:
        UserError: the configuration is wrong or does not fit the network; see `read_config` and `PredictiveNet`.
    """
    checked = read_config(config)
    return PredictiveNet(copy.deepcopy(backbone), checked)
