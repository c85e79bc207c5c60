"""Whether members disagree where their mean is wrong, and whether gold stays above their bound.

Letters: N responses of all pools, M members, P pairs of responses to one prompt, B bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from training.evaluate.disagreement import disagreement
from training.experiments.adversarial_pool import MADE, STRICT
from training.experiments.proxies import Data
from training.measure import Array

BOTH_REAL, ONE_MADE = "both real", "real and made"
BOUNDS = np.arange(4.0)  # standard deviations below the mean


@dataclass(frozen=True)
class Reliance:
    """``wrong``: how often the mean orders a pair wrongly, by which pairs; the AUC of finding those
    pairs by the members' disagreement, and by how small the mean's own margin is; the shares (B,)
    of real and of made responses whose gold is above each bound."""

    wrong: dict[str, float]
    by_disagreement: dict[str, float]
    by_margin: dict[str, float]
    covered: dict[str, Array]

    @classmethod
    def mean(cls, found: "Sequence[Reliance]") -> "Reliance":
        """Over seeds."""
        return cls(
            *(
                {key: np.mean([getattr(one, name)[key] for one in found], axis=0) for key in known}
                for name, known in vars(found[0]).items()
            )
        )


def reliance(data: Data, rewards: Array) -> Reliance:
    """Of the members' rewards (N, M)."""
    wrong, by_disagreement, by_margin = {}, {}, {}
    for name in (BOTH_REAL, ONE_MADE):
        pairs, better = pairs_of(data, name == ONE_MADE)
        margins = (rewards[pairs[:, 0]] - rewards[pairs[:, 1]]).T
        mean = margins.mean(axis=0)
        right = mean * better > 0
        wrong[name] = float(1 - right.mean())
        found = disagreement(margins, right).auc
        assert found is not None
        by_disagreement[name] = found
        by_margin[name] = float(roc_auc_score(~right, -np.abs(mean)))
    return Reliance(wrong, by_disagreement, by_margin, coverage(data, rewards))


def pairs_of(data: Data, made: bool) -> tuple[Array, Array]:
    """Places (P, 2) of a real response and another real one, or a made one; and how much more gold
    the first has, (P,), which is not zero."""
    places, better = [], []
    for pool, start in data.places():
        real = np.flatnonzero(pool.real)
        others = np.flatnonzero(~pool.real) if made else real
        pairs = np.stack(np.meshgrid(real, others), axis=-1).reshape(-1, 2)
        gold = pool.gold[STRICT][pairs]
        more = gold[:, 0] - gold[:, 1]
        kept = (pairs[:, 0] < pairs[:, 1]) & (more != 0)
        places.append(start + pairs[kept])
        better.append(more[kept])
    return np.concatenate(places), np.concatenate(better)


def nominal(members: int) -> Array:
    """The share (B,) of responses above each bound, were every member right but for a normal error
    of its own: then gold lies under the mean by Student's t times ``std / sqrt(M)``."""
    found: Array = student.cdf(BOUNDS * np.sqrt(members), df=members - 1)
    return found


def coverage(data: Data, rewards: Array) -> dict[str, Array]:
    """The share (B,) of responses whose gold is at least ``mean - k * std`` of the members.

    Members' rewards (N, M) are brought to gold's units by one rising map, fitted to the mean and
    the gold of real responses to other prompts.
    """
    gold = np.concatenate([pool.gold[STRICT] for pool in data.pools])
    kinds = np.concatenate([pool.kinds for pool in data.pools])
    made, judged = np.isin(kinds, MADE), data.judged[data.owner]
    known = ~made & ~judged
    to_gold = IsotonicRegression(out_of_bounds="clip")
    to_gold.fit(rewards[known].mean(axis=1), gold[known])
    members = to_gold.predict(rewards.ravel()).reshape(rewards.shape)
    middle, spread = members.mean(axis=1), members.std(axis=1, ddof=1)
    above = gold[:, None] >= middle[:, None] - BOUNDS * spread[:, None]
    return {
        "real": above[judged & ~made].mean(axis=0),
        "made": above[judged & made].mean(axis=0),
    }
