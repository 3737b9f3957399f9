"""Models of RobustBench, by name: "robustbench:DATA/THREAT/NAME"."""

from pcbench.models.adapters.robustbench import robustbench_spec
from pcbench.models.spec import MODEL_SOURCES

MODEL_SOURCES.register("robustbench", robustbench_spec)
