"""How far does a reward follow length, and what does each remedy give and cost?

Trained on AlpacaEval, whose judge prefers the longer response in four pairs of five, and judged on
its held-out prompts and on RM-Bench, where the harder a pair, the more length misleads. Remedies: a
curve of score over length taken off afterwards (arXiv:2409.17407), a product of experts
(arXiv:2310.05199), two heads (ODIN, arXiv:2402.07319), prompts with word limits (arXiv:2406.17744).

Letters: N responses, R rows of RM-Bench.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from torch import Tensor

from plaudit.calibration import Calibration
from training.data.shapes import Pair
from training.data.splits import Split
from training.drawing import svg
from training.evaluate.accuracy import Estimate, differences, is_right
from training.evaluate.styles import DIFFICULTIES, shares
from training.experiments import bag_of_words
from training.experiments.bag_of_words import (
    LEARNING_RATE,
    BagOfWords,
    Batch,
    Labels,
    Texts,
    adagrad,
    batches,
    pair_loss,
)
from training.experiments.datasets import load_file, read
from training.experiments.result import Result, interval, table
from training.length_bias import curve
from training.length_bias.odin import LengthHead
from training.length_bias.product_of_experts import LengthExpert
from training.length_bias.word_limits import with_limits
from training.measure import Array
from training.method_settings import Odin

SPLIT = Split(validation=0.15, test=0.3)
EPOCHS = 2
SHARE = 0.3  # of the responses, in each local fit
# Of the bias expert; the model's own is .01. Adagrad's steps are about the rate.
EXPERT_RATES = (0.002, 0.02, 0.2)
LIMITED = 0.5

PLAIN, LENGTH_ONLY = "untreated", "length-only"
HELD_OUT_CURVE, OWN_CURVE = "curve of held-out responses", "curve of the judged responses"
EXPERTS = [f"product of experts, rate {rate}" for rate in EXPERT_RATES]
SUM = f"{EXPERTS[-1]}: both"
ODIN, LIMITS = "two heads (ODIN)", "word limits"


@dataclass(frozen=True)
class Judged:
    """Responses to judge: features, lengths, and which pairs were judged. Of RM-Bench each row's
    nine pairs stand together, chosen styles before rejected ones."""

    texts: Texts
    pairs: list[Pair]

    @classmethod
    def of(cls, pairs: list[Pair]) -> "Judged":
        return cls(Texts.of(pairs), pairs)

    def right(self, rewards: Array) -> Array:
        """Whether each pair is ordered rightly by rewards (N,) of the responses."""
        chosen, rejected = rewards[self.texts.places].T
        return is_right(chosen, rejected)

    def styles(self, rewards: Array) -> Array:
        """Shares of rows (R, 4) by difficulty, for RM-Bench."""
        places = self.texts.places.reshape(-1, 3, 3, 2)
        return shares(rewards[places[:, :, 0, 0]], rewards[places[:, 0, :, 1]])

    def correlation(self, rewards: Array) -> float:
        return float(spearmanr(rewards, self.texts.characters).statistic)


@dataclass(frozen=True)
class Data:
    """Training pairs with limited twins, and what is judged."""

    texts: Texts
    labels: Labels
    plain: Array
    limited: Array
    validation: Judged
    test: Judged
    limits: Judged
    rm_bench: Judged

    @classmethod
    def of(cls, data: Path, share: float) -> "Data":
        pairs = read(data, "alpacaeval_lists", "win_probabilities", share)
        sides = {
            side: [pair for pair in pairs if SPLIT.side(pair) == side]
            for side in ("train", "validation", "test")
        }
        twins = with_limits(sides["train"], LIMITED)
        every = sides["train"] + twins
        labels = Labels(
            np.zeros(len(every), bool),
            np.array([pair.target_margin for pair in every]),
            np.array([pair.soft_label for pair in every]),
        )
        return cls(
            Texts.of(every),
            labels,
            np.arange(len(sides["train"])),
            np.arange(len(every)),
            Judged.of(sides["validation"]),
            Judged.of(sides["test"]),
            Judged.of(with_limits(sides["test"], 1.0)),
            Judged.of(load_file(data, "bench_rm_bench", "rm_bench").pairs),
        )


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


@dataclass(frozen=True)
class Beside:
    """What is trained with the model to take the length from it, and how fast."""

    module: LengthExpert | LengthHead
    lr: float = LEARNING_RATE


Rewards = Callable[[Judged], Array]


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


def arms(data: Data, seed: int) -> dict[str, Rewards]:
    """How each arm rewards responses, trained with one seed."""
    torch.manual_seed(seed)
    plain = trained(data, data.plain, seed)
    found: dict[str, Rewards] = {
        LENGTH_ONLY: lambda judged: judged.texts.characters.astype(float),
        PLAIN: partial(scores, plain),
        HELD_OUT_CURVE: partial(less_the_curve, plain, data.validation),
        OWN_CURVE: partial(less_the_curve, plain, None),
    }
    for name, rate in zip(EXPERTS, EXPERT_RATES, strict=True):
        beside = Beside(LengthExpert(), rate)
        model = trained(data, data.plain, seed, beside)
        found[name] = partial(scores, model)
    found[SUM] = partial(product, model, beside)
    head = LengthHead(bag_of_words.HIDDEN, Odin())
    found[ODIN] = partial(scores, trained(data, data.plain, seed, Beside(head)))
    found[LIMITS] = partial(scores, trained(data, data.limited, seed))
    return found


def trained(data: Data, pairs: Array, seed: int, beside: Beside | None = None) -> BagOfWords:
    if beside is None:
        return bag_of_words.train_on_pairs(data.texts, data.labels, pairs, EPOCHS, seed)
    generator = torch.Generator().manual_seed(seed)
    model = BagOfWords(data.texts.features.shape[1], generator)
    optimiser = adagrad(model.parameters())
    optimiser.add_param_group({"params": [*beside.module.parameters()], "lr": beside.lr})
    for _ in range(EPOCHS):
        for batch in batches(data.texts, data.labels, list(pairs[:, None]), generator):
            optimiser.zero_grad()
            loss = loss_beside(model, beside.module, data.texts, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return model


def loss_beside(
    model: BagOfWords, module: LengthExpert | LengthHead, texts: Texts, batch: Batch
) -> Tensor:
    """Pairs are ranked by the sum of both."""
    hidden = model.hidden(batch.rows)
    lengths = torch.from_numpy(texts.characters[batch.responses]).float()
    found, own = hidden @ model.score, module(hidden, lengths)
    penalty = module.penalty(model.score, found, own, lengths)
    return pair_loss(found + own, batch.judged) + penalty


def scores(model: BagOfWords, judged: Judged) -> Array:
    return bag_of_words.scores_of(model, judged.texts.features)


@torch.no_grad()
def product(model: BagOfWords, beside: Beside, judged: Judged) -> Array:
    """Of model and expert together, as they were trained."""
    lengths = torch.from_numpy(judged.texts.characters).float()
    own: Array = beside.module(lengths[:, None], lengths).numpy()
    return scores(model, judged) + own


def less_the_curve(model: BagOfWords, fitted_to: Judged | None, judged: Judged) -> Array:
    """Scores less the curve fitted to other responses, or (None) to the judged ones."""
    seen = judged if fitted_to is None else fitted_to
    knots = curve.fit(scores(model, seen), seen.texts.characters, SHARE)
    reward = Calibration("length", curve=knots).reward
    both = zip(scores(model, judged).tolist(), judged.texts.characters.tolist(), strict=True)
    return np.array([reward(score, length) for score, length in both])


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
        interval(gain) if treated else "",
        f"{arm.correlation:+.3f}",
        *(f"{share:.3f}" for share in arm.styles.mean(axis=0)),
        interval(harder) if treated else "",
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
