"""Feedback weights in a file of their own: what `pcbench train feedback` writes, loaded into any predictive network."""

from pathlib import Path

from pcbench.errors import UserError
from pcbench.models.checkpoints import Metadata, configuration_hash, feedback_tensors, match, read
from pcbench.models.predictive.classifier import PredictiveClassifier
from pcbench.models.predictive.network import PredictiveNet
from pcbench.models.sources import sha256


def feedback_identity(network: PredictiveNet) -> str:
    """Hash of what feedback weights depend on: the input's size, where the network is cut, and its predictors."""
    return configuration_hash(network.config.structure())


def load_feedback_weights(network: PredictiveNet | PredictiveClassifier, path: str | Path) -> Metadata:
    """Load a file of feedback weights into a predictive network of the same configuration.

    Args:
        network: changed in place; a classifier's provenance then has the file's checksum.
        path: as `pcbench train feedback` or `pcbench weights import` wrote it.

    Returns:
        What the file says about itself.

    Raises:
        UserError: the network is not predictive; the file is missing or damaged, or belongs to another network, or to
            another configuration of this one, or its tensors do not fit.
    """
    if not isinstance(network, PredictiveNet | PredictiveClassifier):
        kind = getattr(network, "name", "") or type(network).__name__
        raise UserError(f"{kind} is not a predictive network, so it takes no feedback weights")
    net = network.network if isinstance(network, PredictiveClassifier) else network
    name = network.name if isinstance(network, PredictiveClassifier) else ""
    path = Path(path).expanduser()
    checkpoint = read(path)
    found, expected = checkpoint.metadata, feedback_identity(net)
    if name and found.architecture != name:
        raise UserError(f"{path.name} has the feedback weights of {found.architecture or 'no network'}, not of {name}")
    if found.configuration not in ("", expected):
        count = len({key.split(".")[1] for key in checkpoint.tensors if key.startswith("pcoders.")})
        raise UserError(
            f"{path.name} belongs to another configuration of {name or 'the network'}: {count} PCoders, hash "
            f"{found.configuration[:12]}; this one has {len(net.pcoders)}, hash {expected[:12]}; name the "
            "configuration that it was trained with, or train feedback for this one"
        )
    tensors = feedback_tensors(net)
    optional = [key for key in tensors if key.endswith(".C_sqrt")]
    fitting = match(checkpoint.tensors, tensors, f"weights {path.name}", optional=optional)
    net.load_state_dict(fitting, strict=False)  # strict in effect: `match` has compared every name
    if isinstance(network, PredictiveClassifier):
        checksums = network.provenance.get("sha256")
        network.provenance["sha256"] = {**(checksums if isinstance(checksums, dict) else {}), "feedback": sha256(path)}
    return found
