"""A quantile of a histogram's buckets, as Prometheus' ``histogram_quantile`` estimates it."""

import math
from collections.abc import Mapping


def histogram_quantile(q: float, buckets: Mapping[float, float]) -> float:
    """``buckets`` are cumulative counts by upper bound, with infinity; NaN where nothing fell.

    Within a bucket values are taken as evenly spread, below the lowest bound from zero, and above
    the highest finite bound as that bound. See Prometheus' promql/quantile.go.
    """
    bounds = sorted(buckets)
    if len(bounds) < 2 or not math.isinf(bounds[-1]) or not buckets[bounds[-1]]:
        return math.nan
    rank = q * buckets[bounds[-1]]
    at = next(i for i, bound in enumerate(bounds) if buckets[bound] >= rank)
    if at == len(bounds) - 1:
        return bounds[-2]
    if at == 0 and bounds[0] <= 0:
        return bounds[0]
    start, end = (0.0 if at == 0 else bounds[at - 1]), bounds[at]
    below = 0.0 if at == 0 else buckets[bounds[at - 1]]
    return start + (end - start) * ((rank - below) / (buckets[end] - below))
