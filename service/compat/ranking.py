"""The order of rerankers' answers."""

import math
from collections.abc import Sequence


def ranked(numbers: Sequence[float | None]) -> list[tuple[int, float | None]]:
    """Places and numbers (N,), the highest first; equal ones in order of place, null ones last."""
    return sorted(
        enumerate(numbers),
        key=lambda one: -math.inf if one[1] is None else one[1],
        reverse=True,  # which keeps equal ones in order, too
    )
