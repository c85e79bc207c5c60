"""RM-Bench: three styles of a chosen response against three of a rejected one (arXiv:2410.16184).

Pure. Letters: N rows of the benchmark. Styles in their order: concise, detailed, detailed Markdown.
"""

import numpy as np

from training.evaluate.accuracy import Array, is_right

STYLES = ("concise", "detailed", "markdown")
DIFFICULTIES = ("easy", "normal", "hard", "average")


def wins(chosen: Array, rejected: Array) -> Array:
    """Scores (N, 3) of each side -> (N, 3, 3): whether chosen style i beats rejected style j.

    A tie is wrong.
    """
    return is_right(chosen[:, :, None], rejected[:, None, :])


def shares(chosen: Array, rejected: Array) -> Array:
    """Each row's share of pairs that are right, (N, 4): easy, normal, hard, average.

    Easy is where the chosen response has the richer style, hard where the rejected one has. The
    average is over all nine pairs.
    """
    found = wins(chosen, rejected)
    lower, diagonal = np.tri(3, k=-1, dtype=bool), np.eye(3, dtype=bool)
    places = (lower, diagonal, lower.T, np.ones((3, 3), bool))
    return np.stack([found[:, place].mean(axis=1) for place in places], axis=1)


def accuracy_by_difficulty(chosen: Array, rejected: Array) -> dict[str, float]:
    """Accuracy over N rows by difficulty, from scores (N, 3) of each side."""
    means = shares(chosen, rejected).mean(axis=0)
    return dict(zip(DIFFICULTIES, map(float, means), strict=True))
