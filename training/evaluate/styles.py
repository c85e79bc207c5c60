"""RM-Bench: three styles of a chosen response against three of a rejected one (arXiv:2410.16184).

Pure. Letters: N rows of the benchmark. Styles in their order: concise, detailed, detailed Markdown.
"""

import numpy as np

from training.evaluate.accuracy import Array, is_right

_RICHER = np.tri(3, k=-1, dtype=bool)
# Which of the pairs (chosen style, rejected style) count, (3, 3). Easy is where the chosen response
# has the richer style, hard where the rejected one has.
DIFFICULTIES = {
    "easy": _RICHER,
    "normal": np.eye(3, dtype=bool),
    "hard": _RICHER.T,
    "average": np.ones((3, 3), dtype=bool),
}


def wins(chosen: Array, rejected: Array) -> Array:
    """Scores (N, 3) of each side -> (N, 3, 3): whether chosen style i beats rejected style j.

    A tie is wrong.
    """
    return is_right(chosen[:, :, None], rejected[:, None, :])


def shares(chosen: Array, rejected: Array) -> Array:
    """Each row's share of pairs that are right, (N, 4), by difficulty; from scores (N, 3)."""
    found = wins(chosen, rejected)
    return np.stack([found[:, counts].mean(axis=1) for counts in DIFFICULTIES.values()], axis=1)
