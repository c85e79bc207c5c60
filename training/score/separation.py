"""How far apart the scores of chosen and rejected responses lie, before and after training. Pure.

Letters: P pairs.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from msgspec import Struct
from scipy.stats import ks_2samp

from training.data.jsonlines import DataError
from training.data.shapes import Pair
from training.data.sources import Loaded
from training.measure import Measured

BINS = 40
# Source, line, place of the response in its row.
Place = tuple[str, int, int]
# Scores by place, None where there is an error; by the name of their file.
Files = Mapping[str, Mapping[Place, float | None]]


class Separation(Struct, frozen=True):
    """``ks`` is the Kolmogorov-Smirnov distance of the chosen scores from the rejected ones: the
    largest difference of their cumulative shares, 0 where they lie alike, 1 where they are apart.
    ``accuracy`` is the share of pairs whose chosen response scores higher. Both histograms have the
    same ``edges``."""

    pairs: int
    ks: float
    accuracy: float
    edges: list[float]
    chosen: list[int]
    rejected: list[int]


def separation(measured: Measured) -> Separation:
    """From scores (P,) of either side."""
    edges = np.histogram_bin_edges(np.concatenate([measured.chosen, measured.rejected]), BINS)
    return Separation(
        pairs=len(measured.chosen),
        ks=float(ks_2samp(measured.chosen, measured.rejected).statistic),
        accuracy=measured.accuracy,
        edges=edges.tolist(),
        chosen=np.histogram(measured.chosen, edges)[0].tolist(),
        rejected=np.histogram(measured.rejected, edges)[0].tolist(),
    )


def by_file(loaded: Loaded, files: Files) -> dict[str, Separation]:
    """Of the pairs that every file has both scores of; empty if there are none."""
    pairs = list(_scored(loaded, files))
    if not pairs:
        return {}
    return {
        label: separation(
            Measured(
                np.array([scores[_place(pair, 0)] for pair in pairs]),
                np.array([scores[_place(pair, 1)] for pair in pairs]),
            )
        )
        for label, scores in files.items()
    }


def check_covers(before: Mapping[Place, float | None], loaded: Loaded) -> None:
    """Refuse earlier scores that are of other data."""
    for pair in loaded.pairs:
        if any(_place(pair, side) not in before for side in (0, 1)):
            raise DataError(
                f"--before has no score of line {pair.line} of {pair.source}: score the same data"
            )


def _scored(loaded: Loaded, files: Files) -> Iterator[Pair]:
    for pair in loaded.pairs:
        both = [_place(pair, side) for side in (0, 1)]
        if all(scores[place] is not None for scores in files.values() for place in both):
            yield pair


def _place(pair: Pair, side: int) -> Place:
    return pair.source, pair.line, pair.places[side]
