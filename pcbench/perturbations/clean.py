"""Images as they are."""

from collections.abc import Mapping

from pcbench.keys import Condition
from pcbench.perturbations.base import KINDS, Perturbation
from pcbench.tables import Table


class CleanTable(Table):
    """`kind = "clean"`: nothing to say."""


class Clean(Perturbation):
    """Unperturbed images: one condition, severity 0."""

    @classmethod
    def conditions(cls, suite: str, table: Mapping[str, object]) -> list[Condition]:
        """The one condition."""
        CleanTable.read(suite, table)
        return [Condition("clean", "clean", "clean", 0.0)]


KINDS.register("clean", Clean)
