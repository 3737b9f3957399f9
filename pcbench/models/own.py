"""Networks that are defined and trained here: their parameters are drawn with a seed or read from a file of ours."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import nn

from pcbench.models.checkpoints import configuration_hash, load
from pcbench.models.shipped import weights_file
from pcbench.models.sources import sha256
from pcbench.models.spec import Weights, WeightSource
from pcbench.randomness import global_stream

Network = TypeVar("Network", bound=nn.Module)


def initialised(make: Callable[[], Network], seed: int) -> Network:
    """What `make` makes, its random initial parameters drawn with the seed; the global generators stay as they are.

    >>> a, b = (initialised(lambda: nn.Linear(2, 2), seed=1).weight for _ in range(2))
    >>> bool((a == b).all())
    True
    """
    with global_stream(seed, "initial parameters"):
        return make()


def own_network(
    make: Callable[[], Network],
    architecture: str,
    configuration: Mapping[str, object],
    weights: Weights,
    seed: int,
    role: str = "network",
) -> tuple[Network, dict[str, object]]:
    """A network with its weights: from the file in the role, or drawn with the seed when `weights` has no such file.

    Args:
        make: makes the network with random parameters.
        architecture: that the file must be for.
        configuration: the network's options; a file of another configuration is refused.
        weights: the chosen entry.
        seed: of a random initialisation.
        role: of the file.

    Returns:
        The network, and what a run records about it.

    Raises:
        UserError: the file is missing, damaged, or does not fit.
    """
    network = initialised(make, seed)
    record: dict[str, object] = {"configuration": dict(configuration)}
    if role in weights.sources:
        path = weights.sources[role].path()
        expected = configuration_hash(configuration)
        network.load_state_dict(load(path, network.state_dict(), architecture=architecture, configuration=expected))
        record["sha256"] = {role: sha256(path)}
    else:
        record["seed"] = seed
    return network, record


def trained_here(architecture: str, tag: str, recipe: str, data: str = "CIFAR10") -> WeightSource:
    """The source of a file that a recipe of ours makes: shipped, or made by the user."""
    command = f"pcbench train {recipe} --model {architecture} --tag {tag} --data {data} --output DIR --install"
    return weights_file(f"{architecture}-{tag}.safetensors", command)
