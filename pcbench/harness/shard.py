"""A part of a run, of several that may be computed apart."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from pcbench.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` parts of a run, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "2/8". Raises UserError.

        >>> Shard.parse("2/8")
        Shard(index=2, count=8)
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"shard is {text!r}; the second of eight parts is 2/8")
        return cls(int(match[1]), int(match[2]))

    def of(self, things: Sequence[T]) -> list[T]:
        """The part's share: every count-th thing."""
        return list(things[self.index - 1 :: self.count])
