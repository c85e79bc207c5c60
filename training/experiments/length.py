"""How far does a reward follow length, and what does each remedy give and cost?

Trained on AlpacaEval, whose judge prefers the longer response in four pairs of five, and judged on
its held-out prompts and on RM-Bench, where the harder a pair, the more length misleads.

Letters: R rows of RM-Bench.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.data.shapes import Pair
from training.drawing import svg
from training.evaluate.accuracy import Estimate, differences
from training.evaluate.styles import DIFFICULTIES
from training.experiments.length_arms import (
    EXPERTS,
    HELD_OUT_CURVE,
    LENGTH_ONLY,
    LIMITS,
    ODIN,
    OWN_CURVE,
    PLAIN,
    SHARE,
    SUM,
    Rewards,
    arms,
)
from training.experiments.length_data import Data, Judged
from training.experiments.result import Result, table
from training.length_bias import curve
from training.measure import Array


@dataclass(frozen=True)
class Arm:
    """What one arm's rewards come to. ``right`` (pairs,) of AlpacaEval, ``styles`` (R, 4) of
    RM-Bench, Spearman's correlations of reward and length, and how many of the pairs whose prompt
    limits the words are right; means over seeds."""

    right: Array
    styles: Array
    correlation: float
    rm_correlation: float
    limits: float

    @classmethod
    def mean(cls, found: "Sequence[Arm]") -> "Arm":
        return cls(
            *(np.mean([getattr(one, name) for one in found], axis=0)
              for name in ("right", "styles", "correlation", "rm_correlation", "limits"))
        )  # fmt: skip


def run(data: Path, quick: bool) -> Result:
    """Three seeds; ``quick``: one, on three tenths of the prompts."""
    seeds, share = (1, 0.3) if quick else (3, 1.0)
    known = Data.of(data, share)
    by_seed = [arms(known, seed) for seed in range(seeds)]
    found = {name: Arm.mean([judge(known, one[name]) for one in by_seed]) for name in by_seed[0]}
    claims = _claims(found, quick)
    numbers = {name: _numbers(arm) for name, arm in found.items()}
    return Result(
        tables=[_table(known, found)],
        figure=svg(partial(_panels, known, by_seed[0], found), width=8),
        figures={"seeds": seeds, **_sizes(known), "arms": numbers},
        failures=[claim for claim, held in claims.items() if not held],
    )


def judge(data: Data, rewards: Rewards) -> Arm:
    test, rm_bench = rewards(data.test), rewards(data.rm_bench)
    return Arm(
        right=data.test.right(test),
        styles=data.rm_bench.styles(rm_bench),
        correlation=data.test.correlation(test),
        rm_correlation=data.rm_bench.correlation(rm_bench),
        limits=float(data.limits.right(rewards(data.limits)).mean()),
    )


def _claims(found: dict[str, Arm], quick: bool) -> dict[str, bool]:
    plain, own, odin = found[PLAIN], found[OWN_CURVE], found[ODIN]
    experts = [found[PLAIN], *(found[name] for name in EXPERTS)]
    hard, average = (list(DIFFICULTIES).index(name) for name in ("hard", "average"))
    gain = (own.styles - plain.styles).mean(axis=0)
    held_out = (found[HELD_OUT_CURVE].styles - plain.styles).mean(axis=0)
    return {
        "the judged responses' own curve leaves |Spearman| under .05 on AlpacaEval": abs(
            own.correlation
        )
        < 0.05,
        "and on RM-Bench": abs(own.rm_correlation) < 0.05,
        "it gives 10 points on RM-Bench hard": gain[hard] >= 0.1,
        "and some on average": quick or gain[average] > 0,
        "a held-out curve gives 10 points on RM-Bench hard": held_out[hard] >= 0.1,
        "a faster bias expert leaves less correlation": all(
            abs(slow.correlation) > abs(fast.correlation) for slow, fast in pairwise(experts)
        ),
        "model and expert together are as accurate as the untreated": (
            found[SUM].right.mean() > plain.right.mean() - 0.015
        ),
        "two heads leave less correlation": abs(odin.correlation) < abs(plain.correlation),
        "word limits leave less correlation": abs(found[LIMITS].correlation)
        < abs(plain.correlation),
    }


def _table(data: Data, found: dict[str, Arm]) -> str:
    header = [
        "reward", "AlpacaEval", "less untreated", "correlation with length", "RM-Bench easy",
        "normal", "hard", "average", "hard, less untreated", "correlation", "limited pairs",
    ]  # fmt: skip
    return table(header, [_line(data, name, arm, found[PLAIN]) for name, arm in found.items()])


def _line(data: Data, name: str, arm: Arm, plain: Arm) -> list[str]:
    hard = list(DIFFICULTIES).index("hard")
    treated = name not in (PLAIN, LENGTH_ONLY)
    gain = paired(data.test.pairs, plain.right, arm.right)
    prompts = data.rm_bench.pairs[::9]
    harder = paired(prompts, plain.styles[:, hard], arm.styles[:, hard])
    return [
        name,
        f"{arm.right.mean():.3f}",
        f"{gain:+.3f}" if treated else "",
        f"{arm.correlation:+.3f}",
        *(f"{share:.3f}" for share in arm.styles.mean(axis=0)),
        f"{harder:+.3f}" if treated else "",
        f"{arm.rm_correlation:+.3f}",
        f"{arm.limits:.3f}",
    ]


def paired(pairs: Sequence[Pair], before: Array, after: Array) -> Estimate:
    prompts = [pair.first_turn for pair in pairs]
    return differences(np.stack([before, after], axis=1), prompts, baseline=0)[1]


def _sizes(data: Data) -> dict[str, int]:
    return {
        "train": len(data.plain),
        "limited": len(data.limited) - len(data.plain),
        "test": len(data.test.pairs),
        "rm_bench_rows": len(data.rm_bench.pairs) // 9,
    }


def _numbers(arm: Arm) -> dict[str, object]:
    return {
        "accuracy": float(arm.right.mean()),
        "correlation": float(arm.correlation),
        "rm_bench": dict(zip(DIFFICULTIES, arm.styles.mean(axis=0).tolist(), strict=True)),
        "rm_bench_correlation": float(arm.rm_correlation),
        "limited_pairs": float(arm.limits),
    }


def _panels(data: Data, rewards: dict[str, Rewards], found: dict[str, Arm], figure: Figure) -> None:
    scattered, bars = figure.subplots(1, 2, width_ratios=[1, 1.6])
    _scatter(scattered, data.test, rewards[PLAIN](data.test))
    shown = [PLAIN, HELD_OUT_CURVE, OWN_CURVE, EXPERTS[-1], ODIN, LIMITS]
    places = np.arange(len(DIFFICULTIES))
    for number, name in enumerate(shown):
        width = 0.8 / len(shown)
        bars.bar(places + number * width, found[name].styles.mean(axis=0), width, label=name)
    bars.set_xticks(places + 0.4 - 0.4 / len(shown), list(DIFFICULTIES))
    bars.set(title="RM-Bench", ylabel="accuracy", ylim=(0, 1))
    bars.legend(frameon=False, fontsize=6)


def _scatter(axis: Axes, judged: Judged, found: Array) -> None:
    """Untreated scores over length, with the curve that is taken off."""
    lengths = judged.texts.characters
    axis.plot(lengths, found, ".", markersize=1.5, alpha=0.3, rasterized=True)
    knots = np.array(curve.fit(found, lengths, SHARE))
    axis.plot(knots[:, 0], knots[:, 1], color="C1")
    axis.set(title="AlpacaEval, untreated", xlabel="characters", ylabel="score", xscale="log")
