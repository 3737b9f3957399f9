"""pcbench: a robustness benchmark for image classifiers that have dynamics.

The public names below are imported when they are first used, so that `import pcbench` and `pcbench --help` are fast.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcbench import metrics as metrics
    from pcbench.analysis.compare import compare as compare
    from pcbench.config import RunConfig as RunConfig
    from pcbench.data.registry import list_data as list_data
    from pcbench.errors import Notice as Notice
    from pcbench.harness.run import run as run
    from pcbench.models.foreign import network as network
    from pcbench.models.listing import list_models as list_models
    from pcbench.models.predictive.predify import predify as predify
    from pcbench.models.resolve import load_model as load_model
    from pcbench.perturbations.corruptions import corrupt as corrupt
    from pcbench.perturbations.corruptions.own import corruption as corruption
    from pcbench.results.study import load_results as load_results
    from pcbench.suites.registry import list_suites as list_suites

_HOMES = {
    "Notice": "pcbench.errors",
    "RunConfig": "pcbench.config",
    "compare": "pcbench.analysis.compare",
    "corrupt": "pcbench.perturbations.corruptions",
    "corruption": "pcbench.perturbations.corruptions.own",
    "list_data": "pcbench.data.registry",
    "list_models": "pcbench.models.listing",
    "list_suites": "pcbench.suites.registry",
    "load_model": "pcbench.models.resolve",
    "load_results": "pcbench.results.study",
    "network": "pcbench.models.foreign",
    "predify": "pcbench.models.predictive.predify",
    "run": "pcbench.harness.run",
}

__version__ = version("pcbench")
__all__ = ["__version__", "metrics", *_HOMES]


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("pcbench.metrics")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pcbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
