"""Do steps up the difference objective tell the responses of another source further apart?

After MetaRM (arXiv:2405.00438): trained on the pairs of RMB; the shifted responses, without their
labels, are AlpacaEval's. Held-out prompts of both measure. A step of 0 is plain training, and a
step down the control.

Letters: P pairs, G groups of k responses to one prompt, each in a row of features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from training.data.shapes import Pair
from training.data.splits import Split, by_prompt
from training.drawing import svg
from training.evaluate.accuracy import Estimate, differences
from training.experiments import bag_of_words
from training.experiments.bag_of_words import BagOfWords, Labels, Texts
from training.experiments.datasets import read, rmb_pairs
from training.experiments.result import Result, table
from training.measure import Array
from training.meta import difference, draw, moved

PROMPTS, RESPONSES = 8, 4
PLAIN = "plain"
SPLIT = Split(validation=0, test=0.2)
STEPS = (-10.0, 0.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class Side:
    """Pairs as features, which are trained on, which test, and the prompts of the latter."""

    texts: Texts
    train: Array
    test: Array
    prompts: list[str]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> "Side":
        inside = np.array([SPLIT.side(pair) == "train" for pair in pairs])
        test = np.flatnonzero(~inside)
        prompts = [pairs[place].first_turn for place in test.tolist()]
        return cls(Texts.of(pairs), np.flatnonzero(inside), test, prompts)


@dataclass(frozen=True)
class Data:
    """The pairs, the shifted pairs, the distinct shifted responses of each prompt of the train
    side, and those of the others in groups (G, k)."""

    pairs: Side
    shifted: Side
    known: list[list[int]]
    groups: Array
    prompts: list[str]

    @classmethod
    def of(cls, pairs: Sequence[Pair], shifted: Sequence[Pair]) -> "Data":
        side = Side.of(shifted)
        train, test = (
            by_prompt(places.tolist(), key=lambda place: shifted[place])
            for places in (side.train, side.test)
        )
        generator = np.random.default_rng(0)
        groups, prompts = [], []
        for prompt in test:
            rows = generator.permutation(np.unique(side.texts.places[prompt]))
            found = rows[: len(rows) // RESPONSES * RESPONSES].reshape(-1, RESPONSES)
            groups.append(found)
            prompts += [shifted[prompt[0]].first_turn] * len(found)
        known = [np.unique(side.texts.places[prompt]).tolist() for prompt in train]
        enough = [rows for rows in known if len(rows) >= RESPONSES]
        return cls(Side.of(pairs), side, enough, np.concatenate(groups), prompts)


@dataclass(frozen=True)
class Found:
    """Of one step size, means over seeds: the objective of each group (G,), and how often each
    test pair, and each shifted test pair, is right, (P,)."""

    objective: Array
    right: Array
    shifted: Array


def run(data: Path, quick: bool) -> Result:
    """Three seeds; ``quick``: one, on a fifth of the prompts, and one step size each way."""
    share, seeds = (0.2, 1) if quick else (1.0, 3)
    steps = (-10.0, 0.0, 10.0) if quick else STEPS
    known = Data.of(
        rmb_pairs(data, share), read(data, "alpacaeval_lists", "win_probabilities", share)
    )
    found = {PLAIN: measure(known, None, seeds)}
    found |= {f"step {step:g}": measure(known, step, seeds) for step in steps}
    return Result(
        tables=[_table(known, found)],
        figure=_draw(known, found),
        figures={
            "pairs": {"train": len(known.pairs.train), "test": len(known.pairs.test)},
            "shifted": {"train_prompts": len(known.known), "test_groups": len(known.groups)},
            "seeds": seeds,
            "arms": {name: _summary(known, found, name) for name in found},
        },
        failures=[name for name, held in _claims(known, found, quick).items() if not held],
    )


def measure(data: Data, step: float | None, seeds: int) -> Found:
    models = [trained(data, step, seed) for seed in range(seeds)]
    rows = data.shifted.texts.features[data.groups.ravel()]
    with torch.no_grad():
        scores = [model(rows).view(-1, RESPONSES) for model in models]
    objective = [[difference(group[None]).item() for group in one] for one in scores]
    right, shifted = (
        np.mean([bag_of_words.margins(model, side.texts, side.test) > 0 for model in models], 0)
        for side in (data.pairs, data.shifted)
    )
    return Found(np.mean(objective, axis=0), right, shifted)


def trained(data: Data, step: float | None, seed: int) -> BagOfWords:
    """A model after one epoch; None never looks at the shifted responses."""
    generator = torch.Generator().manual_seed(seed)
    texts = data.pairs.texts
    model = BagOfWords(texts.features.shape[1], generator)
    weights = list(model.parameters())
    optimiser = bag_of_words.adagrad(weights)
    labels, elements = Labels.given(len(texts.places)), list(data.pairs.train[:, None])
    for number, batch in enumerate(bag_of_words.batches(texts, labels, elements, generator)):
        directions: Sequence[torch.Tensor | None] = [None] * len(weights)
        if step is not None:
            directions = torch.autograd.grad(objective(model, data, (seed, number)), weights)
        optimiser.zero_grad()
        with moved(weights, directions, step or 0.0):
            loss = bag_of_words.pair_loss(model(batch.rows), batch.judged)
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model


def objective(model: BagOfWords, data: Data, seed: tuple[int, int]) -> torch.Tensor:
    """Of the shifted responses of a step."""
    rows = draw(data.known, PROMPTS, RESPONSES, seed)
    return difference(model(data.shifted.texts.features[rows]).view(PROMPTS, RESPONSES))


def gains(data: Data, found: dict[str, Found], name: str) -> dict[str, Estimate]:
    """What an arm has more than plain training, of the objective and both accuracies, paired."""
    one, plain = found[name], found[PLAIN]
    prompts = {"objective": data.prompts, "right": data.pairs.prompts}
    prompts |= {"shifted": data.shifted.prompts}
    return {
        what: differences(
            np.stack([getattr(plain, what), getattr(one, what)], axis=1), of, baseline=0
        )[1]
        for what, of in prompts.items()
    }


def _claims(data: Data, found: dict[str, Found], quick: bool) -> dict[str, bool]:
    """What is to be shown; ``quick`` does not ask for the published direction."""
    plain, still = found[PLAIN], found["step 0"]
    ups = [name for name in found if name != PLAIN and float(name.split()[1]) > 0]
    more = {name: gains(data, found, name) for name in ups}
    kept = {
        name: abs(one["right"].value) <= (0.03 if quick else 0.01) for name, one in more.items()
    }
    claims = {
        "a step of 0 is plain training to the bit": all(
            np.array_equal(getattr(plain, what), getattr(still, what)) for what in vars(plain)
        ),
        "some step up keeps the accuracy on pairs": any(kept.values()),
    }
    if quick:
        return claims
    return claims | {
        f"{name}: the objective rises on held-out shifted prompts at equal pair accuracy": (
            kept[name] and one["objective"].low > 0
        )
        for name, one in more.items()
    }


def _summary(data: Data, found: dict[str, Found], name: str) -> dict[str, float]:
    one = found[name]
    return {what: float(getattr(one, what).mean()) for what in vars(one)}


def _table(data: Data, found: dict[str, Found]) -> str:
    header = ["trained", "objective", "RMB pairs", "AlpacaEval pairs"]
    rows = []
    for name, one in found.items():
        more = [] if name == PLAIN else list(gains(data, found, name).values())
        shown = [f"{getattr(one, what).mean():.3f}" for what in vars(one)]
        rows.append([name, *shown, *(f"{one:+.3f}" for one in more)] + [""] * (3 - len(more)))
    return table([*header, "more: objective", "RMB", "AlpacaEval"], rows)


def _draw(data: Data, found: dict[str, Found]) -> str:
    names = [name for name in found if name != PLAIN]
    shown = {name: gains(data, found, name) for name in names}
    titles = {"objective": "difference objective", "right": "RMB pairs", "shifted": "AlpacaEval"}

    def panels(figure: Figure) -> None:
        axes = figure.subplots(1, len(titles))
        for axis, (what, title) in zip(axes, titles.items(), strict=True):
            values = [shown[name][what] for name in names]
            middle = [one.value for one in values]
            errors = [[v.value - v.low for v in values], [v.high - v.value for v in values]]
            axis.errorbar(range(len(names)), middle, errors, fmt="o", color="C0")
            axis.axhline(0, color="grey", linewidth=0.8)
            axis.set_xticks(range(len(names)), [name.split()[1] for name in names])
            axis.set(title=f"{title}, more than plain", xlabel="step")

    return svg(panels, width=9)
