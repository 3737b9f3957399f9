"""Which images hyperparameters are tuned on, which they are reported on, and which PCoders take part."""

from collections.abc import Sequence

from pcbench.data.images import ImageSet, choose_positions
from pcbench.errors import UserError
from pcbench.training.batches import split


def tuning_images(images: ImageSet, held_out: float, limit: int | None = None) -> tuple[list[int], list[int]]:
    """Positions to tune on, and positions to report on: the split of `batches.split`, then the limit in each part.

    The split comes first, so no limit moves an image from one part to the other.

    Args:
        images: to split.
        held_out: share to report on; never tuned on.
        limit: images of each part, balanced over classes; None for all.
    """

    def some(positions: list[int]) -> list[int]:
        if not positions or limit is None:
            return positions
        return [positions[chosen] for chosen in choose_positions(images.subset(positions), limit)]

    tuned, reported = split(images.ids, held_out)
    return some(tuned), some(reported)


def chosen_pcoders(wanted: Sequence[int], count: int) -> list[int]:
    """The PCoders, counted from 1; all when none are named. Raises UserError for one that is not there, or named twice.

    >>> chosen_pcoders([5, 2], 8)
    [2, 5]
    """
    for n in wanted:
        if not 1 <= n <= count:
            raise UserError(f"there is no PCoder {n}; the network has 1 to {count}")
    if len(set(wanted)) < len(wanted):
        raise UserError(f"a PCoder is named twice: {', '.join(str(n) for n in wanted)}")
    return sorted(wanted) or list(range(1, count + 1))
