"""Does picking more and more by a proxy cost gold, and do ensembles or averages prevent it?

After Coste et al. (arXiv:2310.02743) and Gao et al. (arXiv:2210.10760): best-of-n over AlpacaEval's
answers to held-out prompts, with GPT-4's win probability as gold; and far beyond, over pools in
which one response of a thousand is there to fool the proxy. Proxies are trained on clean labels and
with 25 % of them flipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.drawing import svg
from training.evaluate.best_of_n import kl
from training.experiments.adversarial_pool import LENIENT, RARE, STRICT
from training.experiments.datasets import alpacaeval_lists
from training.experiments.members import RECIPES, Size
from training.experiments.picks import FEW, MANY, REAL, Picks, picks_of
from training.experiments.proxies import SINGLE, WARM, Data, proxies, rewards_of
from training.experiments.reliance import BOUNDS, Reliance, nominal, reliance
from training.experiments.result import Result, table
from training.measure import Array

NOISES = {"clean": 0.0, "25 % flipped": 0.25}
LATE = int(np.searchsorted(MANY, 10**4))
DRAWN = (SINGLE, "mean", "WCO", "UWO, λ = 5", "LCB, k = 3", WARM)


FULL = Size(share=1.0, seeds=3, members=6, epochs=5)
QUICK = Size(share=0.25, seeds=1, members=2, epochs=2)


class Kind(NamedTuple):
    """Means over the responses of one kind."""

    gold: float
    reward: float
    disagreement: float


@dataclass(frozen=True)
class AtNoise:
    """With labels of one noise, means over seeds: picks by method; means over each kind of
    responses; how far the members' disagreement can be relied on."""

    picks: dict[str, Picks]
    kinds: dict[str, Kind]
    reliance: Reliance


def run(data: Path, quick: bool) -> Result:
    """Three seeds; ``quick``: one, on a quarter of the prompts, of two members."""
    size = QUICK if quick else FULL
    known = Data.of(alpacaeval_lists(data, size.share))
    found = {name: at_noise(known, noise, size) for name, noise in NOISES.items()}
    return Result(
        tables=[
            _few(found),
            _many(found),
            _of_kinds(found),
            _detection(found),
            _bounds(found, size.members),
        ],
        figure=_draw(found),
        figures={
            "pairs": len(known.train),
            "prompts": {"judged": int(known.judged.sum()), "reference": int((~known.judged).sum())},
            "size": vars(size),
            "rare": RARE,
            "noise": {name: _summary(one) for name, one in found.items()},
        },
        failures=[
            f"{name}: {claim}"
            for name, one in found.items()
            for claim, held in _claims(one).items()
            if not held
        ],
    )


def at_noise(data: Data, noise: float, size: Size) -> AtNoise:
    picks: list[dict[str, Picks]] = []
    relied, rewards = [], []
    for seed in range(size.seeds):
        members, warm = rewards_of(data, RECIPES[: size.members], size.epochs, noise, seed)
        picks.append(picks_of(data, proxies(data, members, warm)))
        relied.append(reliance(data, members))
        rewards.append(members)
    means = {method: Picks.mean([one[method] for one in picks]) for method in picks[0]}
    return AtNoise(means, _kinds(data, rewards), Reliance.mean(relied))


def _kinds(data: Data, rewards: Sequence[Array]) -> dict[str, Kind]:
    """Of the members' rewards (N, M) of each seed."""
    kinds = np.concatenate([pool.kinds for pool in data.pools])
    gold = np.concatenate([pool.gold[STRICT] for pool in data.pools])
    mean = np.mean([one.mean(axis=1) for one in rewards], axis=0)
    disagreement = np.mean([one.std(axis=1, ddof=1) for one in rewards], axis=0)
    judged = data.judged[data.owner]
    return {
        str(kind): Kind(*(float(one[own].mean()) for one in (gold, mean, disagreement)))
        for kind in np.unique(kinds)
        for own in [judged & (kinds == kind)]
    }


def _claims(one: AtNoise) -> dict[str, bool]:
    """What the mechanism promises. What an ensemble gains is reported as it comes."""
    single = one.picks[SINGLE]
    fall = single.less(-1, single, single.peak(STRICT), STRICT)
    proxy = single.proxy.mean(axis=0)
    return {
        "among 32 real responses the single proxy gains gold": (
            single.less(-1, single, 0, REAL).low > 0
        ),
        "in the adversarial pool its gold falls beyond the peak": fall.high < 0,
        "while the proxy itself rises": bool((np.diff(proxy) > -1e-9).all()),
    }


def _summary(one: AtNoise) -> dict[str, object]:
    return {
        "picks": {
            method: {
                "gold": {pool: gold.mean(axis=0).tolist() for pool, gold in picks.gold.items()},
                "proxy": picks.proxy.mean(axis=0).tolist(),
                "curves": {pool: picks.curve(pool)._asdict() for pool in picks.gold},
            }
            for method, picks in one.picks.items()
        },
        "draws": {"real": FEW.tolist(), "adversarial": MANY.tolist()},
        "kinds": {kind: found._asdict() for kind, found in one.kinds.items()},
        "reliance": {
            "wrong": one.reliance.wrong,
            "by_disagreement": one.reliance.by_disagreement,
            "by_margin": one.reliance.by_margin,
            "covered": {kind: share.tolist() for kind, share in one.reliance.covered.items()},
        },
    }


def _few(found: dict[str, AtNoise]) -> str:
    rows = [
        [
            noise,
            method,
            *(f"{picks.gold[REAL][:, place].mean():.3f}" for place in (0, 3)),
            f"{picks.estimates(REAL)[-1]:.3f}",
            "" if method == SINGLE else f"{picks.less(-1, one.picks[SINGLE], -1, REAL):+.3f}",
            *_fitted(picks, REAL),
        ]
        for noise, one in found.items()
        for method, picks in one.picks.items()
    ]
    header = ["labels", "proxy", "gold, n = 1", "n = 8", "n = 32", "n = 32, less single", "a", "b"]
    return table(header, rows)


def _many(found: dict[str, AtNoise]) -> str:
    rows = []
    for noise, one in found.items():
        for method, picks in one.picks.items():
            peak = picks.peak(STRICT)
            single = one.picks[SINGLE]
            same = "" if method == SINGLE else f"{picks.less(LATE, single, LATE, STRICT):+.3f}"
            rows.append(
                [
                    noise,
                    method,
                    f"{picks.gold[STRICT][:, peak].mean():.3f} at {MANY[peak]:.0f}",
                    f"{picks.estimates(STRICT)[LATE]:.3f}",
                    same,
                    f"{picks.less(-1, picks, peak, STRICT):+.3f}",
                    *_fitted(picks, STRICT),
                    f"{picks.gold[LENIENT].mean(axis=0).max():.3f}",
                    f"{picks.gold[LENIENT][:, -1].mean():.3f}",
                ]
            )
    late, last = f"n = {MANY[LATE]:.0f}", f"n = {MANY[-1]:.0f}"
    header = ["labels", "proxy", "peak", late, "less single", f"{last} less peak", "a", "b"]
    return table([*header, "lenient: peak", last], rows)


def _fitted(picks: Picks, pool: str) -> list[str]:
    return [f"{value:.3f}" for value in picks.curve(pool)]


def _of_kinds(found: dict[str, AtNoise]) -> str:
    (first, *_) = found.values()
    rows = [
        [
            kind,
            f"{first.kinds[kind].gold:.3f}",
            *(f"{one.kinds[kind].reward:+.2f}" for one in found.values()),
            *(f"{one.kinds[kind].disagreement:.2f}" for one in found.values()),
        ]
        for kind in first.kinds
    ]
    rewards = [f"mean reward: {noise}" for noise in found]
    return table(["responses", "gold", *rewards, *(f"disagreement: {n}" for n in found)], rows)


def _detection(found: dict[str, AtNoise]) -> str:
    rows = [
        [
            noise,
            pairs,
            f"{one.reliance.wrong[pairs]:.2f}",
            f"{one.reliance.by_disagreement[pairs]:.3f}",
            f"{one.reliance.by_margin[pairs]:.3f}",
        ]
        for noise, one in found.items()
        for pairs in one.reliance.wrong
    ]
    return table(["labels", "pairs", "wrong", "AUC: disagreement", "small margin"], rows)


def _bounds(found: dict[str, AtNoise], members: int) -> str:
    rows = [["independent normal errors", "", *(f"{share:.3f}" for share in nominal(members))]]
    rows += [
        [noise, kind, *(f"{share:.3f}" for share in shares)]
        for noise, one in found.items()
        for kind, shares in one.reliance.covered.items()
    ]
    return table(["labels", "responses", *(f"above k = {k:g}" for k in BOUNDS)], rows)


def _draw(found: dict[str, AtNoise]) -> str:
    def panels(figure: Figure) -> None:
        rows = figure.subplots(len(found), 3, squeeze=False)
        for axes, (noise, one) in zip(rows, found.items(), strict=True):
            _gold(axes[0], one, REAL, FEW)
            _gold(axes[1], one, STRICT, MANY)
            _proxy(axes[2], one)
            axes[0].set(ylabel=f"{noise}: gold", title="real responses, n to 32")
            axes[1].set(title=f"adversarial pool, n to {MANY[-1]:.0e}")
            axes[2].set(title="the proxy itself, adversarial pool")
        rows[0][0].legend(frameon=False, loc="lower right", fontsize=6)

    return svg(panels, width=9, height=2.6 * len(found))


def _gold(axis: Axes, one: AtNoise, pool: str, draws: Array) -> None:
    """With the interval and the fitted curve of the single proxy."""
    divergence = kl(draws)
    for number, method in enumerate(DRAWN):
        gold = one.picks[method].gold[pool].mean(axis=0)
        axis.plot(divergence, gold, color=f"C{number}", label=method, linewidth=1)
    estimates = one.picks[SINGLE].estimates(pool)
    low, high = [found.low for found in estimates], [found.high for found in estimates]
    axis.fill_between(divergence, low, high, color="C0", alpha=0.15, linewidth=0)
    fitted = one.picks[SINGLE].curve(pool).at(divergence) + estimates[0].value
    axis.plot(divergence, fitted, "k:", linewidth=1, label="single, fitted d(a - b d)")
    axis.set(xlabel="KL, nats")


def _proxy(axis: Axes, one: AtNoise) -> None:
    for number, method in enumerate(DRAWN):
        proxy = one.picks[method].proxy.mean(axis=0)
        axis.plot(kl(MANY), proxy - proxy[0], color=f"C{number}", linewidth=1)
    axis.set(xlabel="KL, nats", ylabel="reward, more than n = 1")
