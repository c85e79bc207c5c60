"""Few points that cover many: greedy k-center from k-means centres. Pure.

After "Maybe Only 0.5 % Data is Needed" (arXiv:2305.09246) and core-sets (arXiv:1708.00489).
Distances are Euclidean.

Letters: N points, D dimensions, K chosen points, C k-means centres.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_argmin_min

from training.measure import Array

CENTRES = 10


@dataclass(frozen=True)
class Cover:
    """Indices (K,) of points, all different, in the order they were chosen; and the largest
    distance of any point to the nearest of them."""

    chosen: Array
    radius: float


def k_center(points: Array, count: int, seed: int, centres: int = CENTRES) -> Cover:
    """``count`` of ``points`` (N, D): those nearest to k-means centres, then each time the point
    that is farthest from all chosen. Equal points go by the seed, not by their order.

    The radius is at most twice the smallest of any ``count - centres + 1`` points (Gonzalez 1985):
    of any ``count`` points with one centre. Takes N K D steps, and memory for one distance a point.
    """
    if not 1 <= count <= len(points):
        raise ValueError(f"{count} of {len(points)} points cannot be chosen")
    order = np.random.default_rng(seed).permutation(len(points))
    points = points[order].astype(np.float64)
    chosen = nearest_to_centres(points, min(centres, count), seed).tolist()
    distance = cdist(points, points[chosen]).min(axis=1)
    distance[chosen] = -1  # below that of a copy of a chosen point
    while len(chosen) < count:
        farthest = int(distance.argmax())
        chosen.append(farthest)
        np.minimum(distance, cdist(points, points[[farthest]])[:, 0], out=distance)
        distance[farthest] = -1
    return Cover(order[chosen], max(0.0, float(distance.max())))


def nearest_to_centres(points: Array, centres: int, seed: int) -> Array:
    """Indices, at most C, of the points nearest to C k-means centres."""
    with warnings.catch_warnings():
        # Fewer distinct points than centres; those that coincide stand once.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(centres, random_state=seed).fit(points).cluster_centers_
    return np.unique(pairwise_distances_argmin(found, points))


def cover_radius(points: Array, chosen: Array) -> float:
    """The largest distance of any point (N, D) to the nearest of those ``chosen`` (K,)."""
    return float(pairwise_distances_argmin_min(points, points[chosen])[1].max())
